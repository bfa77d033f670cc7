"""A network in a file of another tool, ONNX or TFLite, computed by OpenVINO on one thread.

The file is read by its digest and by nothing else: what was hashed is what is loaded, and an ONNX
file that keeps its weights in files beside it is refused, for it would name them by path.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstock.extract.runtimes.compiled import (
    core,
    last_line,
    openvino,
    present,
    requests_of,
)
from headstock.extract.runtimes.onnx_bytes import has_outside_data
from headstock.store.errors import OptionError, WeightsError, one_line

__all__ = ["FORMATS", "NetworkFile", "digest_of", "found_by_digest", "opened"]

FORMATS = {".onnx": "onnx", ".tflite": "tflite"}
LARGEST_BYTES = 2 << 30  # of a protocol buffer, and so of ONNX in one file


def digest_of(path: Path) -> str:
    """sha256 of a network's file. Raises WeightsError when it cannot be read or is of no format
    that is read here."""
    if path.suffix.lower() not in FORMATS:
        raise WeightsError(path, "is no network file", f"one of {', '.join(FORMATS)}")
    try:
        if not path.is_file():
            raise WeightsError(path, "no such network file", "an .onnx or .tflite file")
        if path.stat().st_size > LARGEST_BYTES:
            raise WeightsError(path, "is larger than 2 GB", "a smaller network")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise WeightsError(path, f"cannot be read: {error}", "a plain file") from error


def found_by_digest(sha256: str, places: Iterable[Any]) -> Path:
    """The first of ``places`` that is the file. Raises WeightsError when none is."""
    for place in places:
        if isinstance(place, str | Path) and "\0" not in str(place) and len(str(place)) < 4096:
            try:
                if digest_of(Path(place)) == sha256:
                    return Path(place)
            except WeightsError:
                continue
    what = f"the network file of sha256 {sha256[:12]}… is not where it was"
    raise WeightsError("recipe", what, "put it there, or name it (--weights)")


Sides = tuple[int, ...]


@functools.cache
def opened(
    path: Path,
    sha256: str,
    input: str | None,
    output: str | None,
    shape: Sides,
    threads: int = 1,
) -> NetworkFile:
    """The network in ``path``, opened once a process; see ``NetworkFile``."""
    return NetworkFile(path, sha256, input, output, shape, threads)


class NetworkFile:
    """float32 arrays in, float32 arrays out. ``input`` and ``output``: their names in the file;
    None for the only input, or the first output. ``shape``: of what it will be given, -1 for any
    number; the network is fitted to it, for OpenVINO computes nonsense where a shape is left open
    and turns out wrong. ``alone``: it takes one item a pass. ``threads``: that may call at a time,
    each computed by one core.

    Raises OptionError without OpenVINO and for names that the file does not have, WeightsError for
    a file that cannot be read or whose digest is not ``sha256``.
    """

    def __init__(
        self,
        path: Path,
        sha256: str,
        input: str | None,
        output: str | None,
        shape: Sides,
        threads: int = 1,
    ) -> None:
        if not present():
            fix = "pip install 'headstock[cpu]'"
            raise OptionError(f"{path}", "needs OpenVINO, which is not installed", fix)
        if digest_of(path) != sha256:
            raise WeightsError(path, "is not the file of the recipe", "the file it was made with")
        library = openvino()
        try:
            model = core().read_model(*_source(path, library))
            self._input = self._named(path, "input", input, model.inputs)
            self._output = self._named(path, "output", output, model.outputs)
            port = model.inputs[self._input]
            fitted = self._fitted(path, shape, port.partial_shape)
            self.alone = fitted[:1] == (1,)
            model.reshape({port: library.PartialShape(list(fitted))})
            self._requests = requests_of(model, "fp32", threads)
        except (OptionError, WeightsError):
            raise
        except Exception as error:  # many classes, over two libraries
            what = f"OpenVINO cannot read it: {last_line(error)}"
            fix = "a network in one file, of operations it knows"
            raise WeightsError(path, what, fix) from error

    def _named(self, path: Path, kind: str, name: str | None, ports: Any) -> int:
        names = [sorted(port.names) for port in ports]
        known = ", ".join("/".join(each) for each in names)[:300]
        if kind == "input" and len(ports) > 1:
            raise OptionError(path, f"has {len(ports)} inputs ({known})", "a network of one input")
        if name is None:
            return 0
        for i, each in enumerate(names):
            if name in each:
                return i
        raise OptionError(path, f"has no {kind} {one_line(name, 80)!r}", known)

    def _fitted(self, path: Path, shape: Sides, own: Any) -> Sides:
        """``shape`` with the sides that the network states for itself."""
        if own.rank.is_dynamic:
            return shape
        sides = [-1 if side.is_dynamic else side.get_length() for side in own]
        if sides[:1] == [1] and len(shape) > 1:  # one item a pass, however many are at hand
            shape = (1, *shape[1:])
        if len(sides) != len(shape) or any(
            a not in (-1, b) and b != -1 for a, b in zip(sides, shape)
        ):
            what = f"takes {_spoken(sides)}, and is described to take {_spoken(shape)}"
            raise OptionError(path, what, "axes, window and front of the network")
        return tuple(b if a == -1 else a for a, b in zip(sides, shape))

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Raises RuntimeError for an array that the network does not take."""
        request = self._requests.get()
        try:
            request.infer([np.ascontiguousarray(batch, dtype=np.float32)])
            return np.array(request.get_output_tensor(self._output).data, dtype=np.float32)
        finally:
            self._requests.put(request)


def _spoken(shape: Sequence[int]) -> str:
    return " x ".join("any" if side == -1 else f"{side:,}" for side in shape)


def _source(path: Path, library: Any) -> tuple[Any, ...]:
    """TFLite, which keeps all in one file, is read by its path; ONNX from its bytes, when all its
    tensors are in them: OpenVINO opens whatever path they name."""
    if FORMATS[path.suffix.lower()] == "tflite":
        return (path,)
    model = path.read_bytes()
    try:
        outside = has_outside_data(model)
    except ValueError as error:
        raise WeightsError(path, f"is no ONNX: {error}", "a network in one file") from error
    if outside:
        what, fix = "keeps tensors in files beside it", "onnx.save_model with all in one file"
        raise WeightsError(path, what, fix)
    return model, library.Tensor(np.zeros(0, dtype=np.uint8))
