"""What every encoder promises, tested on any encoder: those of this package and one of yours."""

from __future__ import annotations

import io
import json
import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headstock.extract.decode.workers import decoded
from headstock.extract.encoder import Encoder, Status, refuse_unlike
from headstock.store.datafile import Reader
from headstock.store.errors import EncoderError, HeadstockError, ItemError, OptionError
from headstock.store.recipe import Recipe

__all__ = ["check_encoder", "sample_files"]

NONSENSE = (b"", b"nonsense" * 50)


def check_encoder(make: Callable[[], Encoder], files: Sequence[bytes] | None = None) -> list[str]:
    """Test the encoder that ``make`` builds against its contract, on ``files`` (the bytes of two or
    more different ones; by itself on made-up pictures or sounds); the clauses it kept, in words.

    Raises EncoderError that names the first clause it broke. A loader that no other process can
    import, such as one of a script, keeps the contract: the last line says so.
    """
    kept = []
    encoder = make()
    where = f"encoder {getattr(encoder, 'name', type(encoder).__name__)}"
    try:
        refuse_unlike(where, encoder)
    except OptionError as error:
        raise EncoderError(where, error.what, error.fix) from error
    given = list(files or sample_files(encoder.modality))
    clause = "it encodes"
    try:
        for clause, test in _clauses(make, encoder, given):
            if broken := test():
                raise EncoderError(where, f"{clause}: {broken}", "mend the encoder")
            kept.append(clause)
    except EncoderError:
        raise
    except Exception as error:
        what = f"{clause}: it raised {type(error).__name__}: {error}"
        raise EncoderError(where, what, "mend it") from error
    try:
        _in_a_worker(encoder, given[0])
    except OptionError as error:
        kept.append(f"its loader {error.what}: it works with -j 0 alone")
    return kept


def sample_files(modality: str, count: int = 5) -> list[bytes]:
    """``count`` different pictures or sounds. Raises OptionError for another modality."""
    rng = np.random.default_rng(0)
    out = []
    for number in range(count):
        file = io.BytesIO()
        if modality == "image":
            from PIL import Image

            pixels = rng.integers(0, 255, (40 + number, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(file, "PNG")
        elif modality == "audio":
            import soundfile

            samples = rng.uniform(-0.5, 0.5, 12_000 + 500 * number).astype(np.float32)
            soundfile.write(file, samples, 8000, format="WAV")
        else:
            raise OptionError(f"modality {modality!r}", "has no made-up files", "give files")
        out.append(file.getvalue())
    return out


def _clauses(
    make: Callable[[], Encoder], encoder: Encoder, files: Sequence[bytes]
) -> Iterator[tuple[str, Callable[[], str]]]:
    items = [encoder.loader(data) for data in files]
    before = encoder.recipe()
    together = encoder.encode(items)

    def members() -> str:
        numbers = (encoder.dim, encoder.batch_size, encoder.in_flight, encoder.devices)
        if not all(isinstance(word, str) and word for word in (encoder.name, encoder.modality)):
            return "name and modality are words"
        if not all(isinstance(n, int) and n >= 1 for n in numbers):
            return "dim, batch_size, in_flight and devices are whole numbers from 1 on"
        if encoder.dtype not in ("float32", "float16"):
            return f"dtype is {encoder.dtype!r}, not float32 or float16"
        names = encoder.feature_names
        good = names is None or len(names) == encoder.dim
        return "" if good else f"{len(names or ())} feature_names for {encoder.dim} values"

    def recipe() -> str:
        again = make().recipe()
        if not isinstance(before, Recipe) or before.modality != encoder.modality:
            return "it is a Recipe of the encoder's modality"
        if Recipe.from_json(before.to_json()) != before:
            return "it does not come back from JSON"
        good = before == encoder.recipe() == again
        return "" if good else "it changes with the first items, or from one encoder to the next"

    def provenance() -> str:
        json.dumps(encoder.provenance())
        return ""

    def vectors() -> str:
        for b in (1, len(items)):
            x = encoder.encode(items[:b])
            if x.shape != (b, encoder.dim) or x.dtype != np.float32:
                return f"{x.dtype} {x.shape} for {b} items and dim {encoder.dim}"
            if not np.isfinite(x).all():
                return "values that are not finite"
        return "" if len(np.unique(together, axis=0)) > 1 else "different files have one vector"

    def alone() -> str:
        if not np.array_equal(together, encoder.encode(items)):
            return "the same batch gives other vectors the second time"
        apart = np.concatenate([encoder.encode([item]) for item in reversed(items)])[::-1]
        return "" if _near(together, apart) else "neighbours change a vector"

    def untouched() -> str:
        copies = pickle.loads(pickle.dumps(items))  # noqa: S301  made here
        encoder.encode(items)
        same = all(np.array_equal(a, b) for a, b in zip(items, copies))
        return "" if same else "encode changes its items"

    def flights() -> str:
        begun = [encoder.start(part) for part in (items, items[:1])]
        if any(encoder.refused(flight) for flight in begun):
            return "items that the loader took are refused"
        x, first = (encoder.finish(flight) for flight in begun)
        encoder.abandon(encoder.start(items[:1]))
        good = np.array_equal(x, together) and _near(first, together[:1])
        return "" if good else "finish(start(items)) is not encode(items)"

    def shares() -> str:
        if encoder.trunk is None:
            return ""
        pair = encoder.shared([encoder, make()])
        begun = [one.start(items) for one in pair]
        good = all(_near(one.finish(f), together) for one, f in zip(pair, begun))
        return "" if good else "encoders that share passes give other vectors"

    def tells() -> str:
        first = encoder.status()
        encoder.encode(items)
        second = encoder.status()
        if not isinstance(first, Status) or not isinstance(second, Status):
            return "status() is no Status"
        back = (second.model_seconds or 0) < (first.model_seconds or 0)
        return "its clocks run backwards" if back else ""

    def loads() -> str:
        loader = pickle.loads(pickle.dumps(encoder.loader))  # noqa: S301  made here
        if loader != encoder.loader or hash(loader) != hash(encoder.loader):
            return "a loader that was pickled is another one: make it a frozen dataclass"
        return "" if _same(loader(files[-1]), items[-1]) else "it gives another item there"

    def transforms() -> str:
        loader, shown = encoder.loader, encoder.loader.decode(files[0])
        if isinstance(shown, Iterator):
            shown = list(shown)
        both = [loader.transform(shown) for _ in range(2)]
        good = all(_same(item, items[0]) for item in both)
        return "" if good else "the second transform of what was decoded gives another item"

    def refuses() -> str:
        for data in NONSENSE:
            try:
                encoder.loader(data)
            except ItemError as error:
                if not error.code:
                    return f"no code for {data[:20]!r}"
            else:
                return f"{data[:20]!r} is taken for a file"
        return ""

    def prepared() -> str:
        ready = make()
        ready.prepare(1)
        good = _near(ready.encode(items[:1]), together[:1])
        return "" if good else "another vector after prepare(1)"

    yield "it has the members of an Encoder", members
    yield "the items it is given stay as they are", untouched
    yield "the recipe is stable and known before the first item", recipe
    yield "the provenance is plain data", provenance
    yield "encode gives (b, d) float32", vectors
    yield "a vector depends on its own item alone, and no state is left behind", alone
    yield "batches may be under way side by side", flights
    yield "passes that are shared change nothing", shares
    yield "it tells what it took", tells
    yield "the loader travels", loads
    yield "what is decoded serves several", transforms
    yield "the loader refuses what is no file, by a code", refuses
    yield "it can be prepared", prepared


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    """But for the rounding of other batches, in float32."""
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-5)


def _same(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))


def _in_a_worker(encoder: Encoder, data: bytes) -> None:
    """Raises OptionError when workers cannot have the loader, HeadstockError when it fails there
    alone."""
    with tempfile.TemporaryDirectory(prefix="headstock-") as folder:
        Path(folder, "file").write_bytes(data)
        (done,) = decoded(Reader(folder), encoder.loader, ["file"])
    if done.error is not None:
        raise HeadstockError(f"encoder {encoder.name}", done.error[1], "mend its loader")
