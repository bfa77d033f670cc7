"""A reader of stores written from ``docs/format.md`` alone: no headstock, h5py for attributes only.

It checks every byte of every file, holds everything in memory and knows no hurry.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from zlib import crc32

import h5py
import numpy as np

CHECKED = ("format", "format_version", "generation", "kind", "min_reader_version", "n", "schema",
           "uuid", "writer")  # fmt: skip


class Damaged(Exception):
    """The store is not what the page says."""


def ensure(good: bool, what: str) -> None:
    if not good:
        raise Damaged(what)


def read_file(path: Path, kind: str) -> tuple[dict, dict, dict[str, np.ndarray]]:
    """(root attributes, meta, datasets) of one file, with every checksum compared."""
    raw = path.read_bytes()
    with h5py.File(path, "r", locking=False) as file:
        root = {k: v if isinstance(v, bytes) else int(v) for k, v in file.attrs.items()}
    ensure(root["format"] == b"headstock" and root["min_reader_version"] <= 1, "another format")
    parts = [v if isinstance(v := root[key], bytes) else b"%d" % v for key in CHECKED]
    ensure(crc32(b"\0".join(parts)) == root["root_crc"], f"{path}: root_crc")
    ensure(root["kind"] == kind.encode(), f"{path}: kind")
    schema = json.loads(root["schema"])
    ensure(schema["length"] == len(raw), f"{path}: length")
    data, rest, at = {}, 0, 0
    for name, (dtype, shape, offset, crc) in sorted(
        schema["datasets"].items(), key=lambda pair: pair[1][2]
    ):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        piece = raw[offset : offset + size]
        data[name] = np.frombuffer(piece, dtype).reshape(shape)
        if crc is not None and name != "/skeleton_crc32":
            ensure(crc32(piece) == crc, f"{path}: {name}")
        if size:
            rest, at = crc32(raw[at:offset], rest), offset + size
    rest = crc32(raw[at:], rest)
    ensure(rest == data["/skeleton_crc32"][0], f"{path}: skeleton")
    return root, schema["meta"], data


def check_rows(data: dict, ids: str, base: str) -> None:
    columns = (data[ids], data[f"{base}/content_sha256"], data[f"{base}/x"], data[f"{base}/crc32"])
    for identity, digest, x, crc in zip(*columns):
        ensure(crc32(identity + digest.tobytes() + x.tobytes()) == crc, f"{base}: {identity!r}")


def texts(column: np.ndarray) -> list[str]:
    return [cell.decode("utf-8", "surrogateescape") for cell in column.tolist()]


def failures(data: dict, base: str) -> dict[int, tuple[str, str]]:
    codes, lines = texts(data[f"{base}/code"]), texts(data[f"{base}/line"])
    return dict(zip(data[f"{base}/row"].tolist(), zip(codes, lines)))


def dataset(column: str) -> str:
    kind, _, name = column.partition("/")
    if not name:
        return f"/items/{kind}"
    name = name.replace("%", "%25").replace("/", "%2F")
    return f"/items/{kind}/" + (name.replace(".", "%2E") if set(name) == {"."} else name)


class Store:
    """``ids``; ``columns`` {name: {id: cell}}; ``sets`` {name: declaration}; ``rows`` {set: {id:
    (status, digest, vector or None, error or None)}}; ``dropped``."""

    def __init__(self, path: Path) -> None:
        folder = path.with_name(path.name + ".d")
        pending = path.with_name(path.name + ".pending")
        traces = sorted(os.listdir(pending)) if pending.is_dir() else []
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        self.ids: list[str] = []
        self.dropped: set[str] = set()
        self.columns: dict[str, dict[str, str]] = {}
        self.sets: dict[str, dict] = {}
        self.rows: dict[str, dict[str, tuple]] = {}
        self._newest(path, folder, names)
        numbers = [int(m[1]) for n in names if (m := re.fullmatch(r"patch-(\d{8,})\.h5", n))]
        for wanted, number in enumerate((k for k in sorted(numbers) if k > self.patches),
                                        self.patches + 1):  # fmt: skip
            ensure(number == wanted, f"patch {wanted} is gone")
            self._patch(folder / f"patch-{number:08d}.h5", number)
        shards = [(*self._open(folder / n, "shard"), n) for n in names if n.startswith("shard-")]
        for _, meta, data, name in sorted(shards, key=lambda s: (s[1]["seq"], s[3])):
            self._shard(meta, data, name)
        mark = hashlib.sha256(self.uuid).hexdigest()[:8]
        for trace in traces:
            kind, store, _, _, _, name = trace.split("-", 5)
            if (kind, store) == ("have", mark):
                ensure((folder / name).exists() or not (pending / trace).exists(), f"{name} gone")

    def _open(self, path: Path, kind: str) -> tuple[dict, dict, dict[str, np.ndarray]]:
        root, meta, data = read_file(path, kind)
        ensure(root["uuid"] == self.uuid, f"{path}: of another store")
        return root, meta, data

    def _newest(self, path: Path, folder: Path, names: list[str]) -> None:
        numbered = [n for n in names if re.fullmatch(r"gen-\d{8,}\.h5", n)]
        found = [read_file(p, "generation") for p in (path, *(folder / n for n in numbered[-1:]))
                 if p.exists()]  # fmt: skip
        ensure(bool(found), "there is no store")
        root, meta, data = max(found, key=lambda one: one[0]["generation"])
        self.uuid, self.generation, self.root = root["uuid"], root["generation"], meta["root"]
        if (folder / "STORE.json").exists():
            body = json.loads((folder / "STORE.json").read_bytes())
            ensure(body["uuid"].encode() == self.uuid, "STORE.json is of another store")
        self.patches = meta["patches"]
        self.gone = set(texts(data["/dropped/id"])) if "/dropped/id" in data else set()
        self.ids = texts(data["/items/id"])
        for column in meta["columns"]:
            self.columns[column] = dict(zip(self.ids, texts(data[dataset(column)])))
        for declared in meta["sets"]:
            name = declared["name"]
            base, self.sets[name] = f"/features/{name}", declared
            check_rows(data, "/items/id", base)
            errors = failures(data, f"/errors/{name}")
            self.rows[name] = {
                identity: (
                    int(data[f"{base}/status"][k]),
                    data[f"{base}/content_sha256"][k].tobytes(),
                    data[f"{base}/x"][k].astype("f4") if data[f"{base}/status"][k] == 1 else None,
                    errors.get(k),
                    int(data[f"{base}/seq"][k]),
                )
                for k, identity in enumerate(self.ids)
                if data[f"{base}/status"][k] != 0
            }

    def _patch(self, path: Path, number: int) -> None:
        root, meta, data = self._open(path, "patch")
        ensure(root["generation"] == number, f"{path}: number")
        ids = texts(data["/items/id"])
        if meta.get("drop"):
            self.dropped |= set(ids)
            for cells in self.columns.values():
                cells.update(dict.fromkeys(set(ids) & set(self.ids), ""))
        else:
            self.dropped -= set(ids)
            known = set(self.ids)
            self.ids += [i for i in ids if i not in known]
            for column in meta["columns"]:
                for identity, cell in zip(ids, texts(data[dataset(column)])):
                    if cell or column in meta["clear"]:
                        self.columns.setdefault(column, {})[identity] = cell
        for declared in meta["declare"]:
            self.sets[declared["name"]] = {**declared, "epoch": number}
            self.rows[declared["name"]] = {}
        self.root = self.root if meta["root"] is None else meta["root"]

    def _shard(self, meta: dict, data: dict[str, np.ndarray], name: str) -> None:
        epoch, rows = self.sets[meta["set"]]["epoch"], self.rows[meta["set"]]
        ensure(meta["epoch"] <= epoch, f"{name}: of a newer set")
        if meta["epoch"] < epoch:
            return
        check_rows(data, "/id", "")
        errors = failures(data, "/errors")
        known = set(self.ids)
        for k, identity in enumerate(texts(data["/id"])):
            if identity not in known:
                ensure(identity in self.gone, f"{name}: row {identity!r} is not here")
                continue
            ok = int(data["/status"][k]) == 1
            old = rows.get(identity)
            if old and not (old[4] < meta["seq"] or (old[4] == meta["seq"] and old[0] != 1 and ok)):
                continue
            x = data["/x"][k].astype("f4") if ok else None
            digest = data["/content_sha256"][k].tobytes()
            rows[identity] = (int(data["/status"][k]), digest, x, errors.get(k), meta["seq"])
