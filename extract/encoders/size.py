"""Networks that would not fit are refused while they are built, before their memory is taken."""

from __future__ import annotations

import math
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from headstock.store.errors import OptionError

__all__ = ["MOST_NUMBERS", "MOST_TENSORS", "Fitting"]

MOST_NUMBERS = 8_000_000_000
"""In a network: the largest that timm publishes has 6.7 billion."""
MOST_TENSORS = 50_000
"""Made while it is built: a network of thousands of layers takes hours to build."""
BYTES = 4


class Fitting(TorchDispatchMode):
    """Within it, tensors are counted as they are asked for. Raises OptionError for the one that no
    longer fits: into ``MOST_NUMBERS``, or into the memory that is free on this machine."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where
        self._numbers = self._tensors = 0
        self._most = min(MOST_NUMBERS, _free() // BYTES)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        size = args[0] if args and isinstance(args[0], list | tuple) else None
        if size is not None and all(isinstance(side, int) for side in size):
            self._numbers += math.prod(size)
            self._tensors += 1
            if self._numbers > self._most or self._tensors > MOST_TENSORS:
                what = (
                    f"has more than {self._most:,} numbers"
                    if self._numbers > self._most
                    else f"has more than {MOST_TENSORS:,} tensors"
                )
                raise OptionError(self._where, f"{what}, and does not fit", "a smaller one")
        return func(*args, **(kwargs or {}))


def _free() -> int:
    """Bytes of memory that this machine can still give; as many as there may be where it does not
    say."""
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) << 10
    except (OSError, ValueError):
        pass
    return MOST_NUMBERS * BYTES
