"""Files that are hostile and not merely broken: wrong inside, with every checksum right.

A real generation, shard or patch is taken apart, something in it is changed (a dataset dropped,
cut, retyped or scrambled, a value of the schema replaced), and it is put together again with
correct checksums. Every reader must answer with an error of the tree or with rows, never with a
traceback.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from world import extract, wanted

from headstock.store import FeatureStore
from headstock.store.care.repair import repair
from headstock.store.care.verify import verify
from headstock.store.disk.file import StoreFile
from headstock.store.disk.layout import SKELETON, Plan
from headstock.store.errors import HeadstockError

ODD = [None, -1, 0, 1, 3, 2**31, 2**63, 2**70, 1.5, True, "", "x", "image", "é\u202e", [], {}, [1],
       {"a": 1}, "../../x", "a" * 5000]  # fmt: skip


def apart(path: Path, kind: str) -> dict[str, Any]:
    """What ``together`` makes a file of."""
    with StoreFile(path, kind) as file:
        arrays = {p: file.column(p, check=False) for p in file.regions if p != SKELETON}
        row_checked = frozenset(p for p, r in file.regions.items() if r.crc is None)
        return {
            "kind": kind, "uuid": file.uuid, "generation": file.generation, "n": file.n,
            "meta": file.meta, "arrays": arrays, "row_checked": row_checked,
        }  # fmt: skip


def together(parts: dict[str, Any]) -> bytes:
    arrays = parts["arrays"]
    plan = Plan(
        kind=parts["kind"], uuid=parts["uuid"], generation=parts["generation"], n=parts["n"],
        meta=parts["meta"], specs={p: (a.dtype, a.shape) for p, a in arrays.items()},
        row_checked=parts["row_checked"] & arrays.keys(),
    )  # fmt: skip
    return bytes(plan.pack(arrays))


def _places(value: Any, trail: tuple = ()) -> list[tuple]:
    """Every place in nested JSON, as the keys that lead there."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    out = []
    for key, each in inside:
        out.append((*trail, key))
        if isinstance(each, dict | list):
            out += _places(each, (*trail, key))
    return out


def _replace(value: Any, trail: tuple, odd: Any, drop: bool) -> Any:
    value = dict(value) if isinstance(value, dict) else list(value)
    if len(trail) > 1:
        value[trail[0]] = _replace(value[trail[0]], trail[1:], odd, drop)
    elif drop:
        del value[trail[0]]
    else:
        value[trail[0]] = odd
    return value


def _array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    how = rng.choice(("cut", "grow", "type", "shape", "scramble", "value"))
    if how == "cut":
        return array[: rng.randint(0, max(0, len(array) - 1))]
    if how == "grow":
        return np.concatenate([array, array[:3]])
    if how == "type":
        return np.zeros(array.shape, rng.choice(["<f4", "<f2", "<u4", "|u1", "<i8", "S3", "<i4"]))
    if how == "shape":
        return array.reshape(-1, 1) if array.ndim == 1 else array.reshape(-1)
    raw = bytearray(array.tobytes())
    if how == "scramble":
        raw = bytearray(rng.randbytes(len(raw)))
    elif raw:
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    return np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)


def spoil(parts: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    parts = {**parts, "arrays": dict(parts["arrays"])}
    for _ in range(rng.randint(1, 2)):
        what = rng.choice(("meta", "meta", "array", "array", "drop", "root"))
        if what == "meta":
            places = _places(parts["meta"])
            if places:
                trail, drop = rng.choice(places), rng.random() < 0.2
                parts["meta"] = _replace(parts["meta"], trail, rng.choice(ODD), drop)
        elif what == "root":
            key = rng.choice(("n", "generation", "uuid"))
            parts[key] = "x" if key == "uuid" else rng.choice([-1, 0, 1, 5, 2**40])
        elif parts["arrays"]:
            path = rng.choice(sorted(parts["arrays"]))
            if what == "drop":
                del parts["arrays"][path]
            else:
                parts["arrays"][path] = _array(parts["arrays"][path], rng)
    return parts


def _read(path: Path) -> None:
    with FeatureStore.open(path) as store:
        _ = (store.n, store.items, store.sets, store.errors())
        for name in store.sets:
            store.progress(name)
            store.by_digest(name, store.feature_set(name).digest)
            store.feature_set(name).x(np.flatnonzero(store.complete(name)))


def _extend(path: Path) -> None:
    extract(path, wanted(12, "z"), lambda *words: None)


READERS: list[Callable[[Path], Any]] = [_read, verify, _extend, repair]


def made(base: Path) -> list[tuple[Path, str]]:
    """A store ``f.h5`` in ``base``, with work pending beside it; its files and their kinds."""
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    extract(base / "f.h5", wanted(8), lambda *words: None)
    extract(base / "f.h5", wanted(12, "b", r2=1), lambda *words: None, compact=False)
    pending = base / "f.h5.d"
    targets = [(base / "f.h5", "generation"), *((p, "shard") for p in pending.glob("shard-*"))]
    return targets + [(p, "patch") for p in pending.glob("patch-*")]


def run(folder: Path, files: int, seed: int = 0) -> dict[str, Any]:
    """So many hostile files, each met by every reader; the counts."""
    base = folder / "base"
    targets = made(base)
    whole = [(path, apart(path, kind)) for path, kind in targets]
    wrong, refused = [], 0
    for number in range(files):
        rng = random.Random(f"{seed}/{number}")
        path, parts = rng.choice(whole)
        try:
            raw = together(spoil(parts, rng))
        except (ValueError, OverflowError, TypeError):
            continue  # no HDF5 file can be made of this
        for reader in READERS:
            here = folder / "try"
            shutil.rmtree(here, ignore_errors=True)
            shutil.copytree(base, here)
            for gen in (here / "f.h5.d").glob("gen-*"):
                gen.unlink()
            (here / path.relative_to(base)).write_bytes(raw)
            try:
                reader(here / "f.h5")
            except HeadstockError as error:
                refused += 1
                if "\n" in str(error):
                    wrong.append(f"file {number}: {reader.__name__}: more than one line")
            except Exception as error:  # noqa: BLE001  any other kind is what we look for
                at = error.__traceback__
                while at and at.tb_next:
                    at = at.tb_next
                where = f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at else ""
                wrong.append(
                    f"file {number} ({path.name.split('-')[0]}): {reader.__name__}: "
                    f"{type(error).__name__} {error} in {where}"
                )
    return {"hostile files": files, "refusals": refused, "wrong": wrong}
