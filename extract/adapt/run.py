"""``adapt``: from a manifest and a backbone to weights that ``extract`` takes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstock.extract.adapt.job import Job
from headstock.extract.adapt.pictures import CACHE, Pictures
from headstock.extract.adapt.report import Adapted
from headstock.extract.adapt.rows import Divide, labelled, parts, plan_of
from headstock.extract.adapt.settings import Settings
from headstock.extract.encoders.backbones import image_encoder
from headstock.extract.pipeline.account import refuse_failures
from headstock.extract.pipeline.pending import refuse_absent
from headstock.extract.pipeline.run import terminable
from headstock.store import Items
from headstock.store.cores import cores
from headstock.store.datafile import Reader
from headstock.store.errors import ItemError, OptionError
from headstock.store.progress import Report

__all__ = ["adapt"]


def adapt(
    items: Items,
    output: str | Path,
    backbone: str,
    *,
    divide: Divide,
    folds: int | str | Any | None = None,
    group: str | None = None,
    settings: Settings | None = None,
    weights: str | Path | None = None,
    device: str = "auto",
    offline: bool = False,
    workers: int | None = None,
    overwrite: bool = False,
    fail_threshold: float | None = None,
    data_roots: Sequence[str | Path] = (),
    allow_outside: bool = False,
    item_seconds: float = 120.0,
    cache: int = CACHE,
    progress: Report | None = None,
    **of_image: Any,
) -> Adapted:
    """Adapt ``backbone`` to the labelled rows of ``items`` outside split ``test``.

    Writes ``output`` (safetensors; the network of all rows), with ``folds`` also one file for each
    fold (``adapted.fold0.safetensors``: the network that did not see that fold) and the plan
    (``adapted.folds.json``), a description (``adapted.json``) and what the networks' own
    classifiers say of rows they did not see (``adapted.out-of-fold.csv``, ``adapted.test.csv``).

    folds: a number, ``group-out``, or a FoldPlan of exactly these rows; ``divide`` makes plans: it
    is ``headstock.heads.make_folds``. ``group``: a column whose values are never parted. Further
    arguments go to ``image_encoder``.

    Run again after a kill it goes on where it was, from the last checkpoint. Raises OptionError,
    WeightsError, HeadError for rows that cannot be divided, TooManyFailures, StorageError.
    """
    s, path = settings or Settings(), Path(output)
    if path.suffix != ".safetensors":
        raise OptionError("output", f"{path.name} is no weights file", "a name.safetensors")
    if "image" not in items.paths:
        raise OptionError("adapt", "the rows have no image column", "name it with --image-col")
    seed = s.seed if s.from_scratch else None
    of_image |= {"untrained_seed": seed, "runtime": "torch"}
    encoder = image_encoder(backbone, weights, device=device, offline=offline, **of_image)
    if encoder.network.seen is not None:
        what = "was adapted already, and to which rows must stay one list"
        raise OptionError(f"{weights}", what, "begin from the weights before that")
    reader = Reader.of(items.root, data_roots, allow_outside)
    refuse_absent(items, "image", reader)
    wanted = np.flatnonzero([bool(p) for p in items.paths["image"]])
    some = items.take(wanted)
    count = _workers(workers, encoder.device)
    path.parent.mkdir(parents=True, exist_ok=True)
    with terminable(), Pictures(
        some.paths["image"].tolist(), some.id.tolist(), reader, encoder.network.preprocess,
        folder=path.parent, workers=count, seconds=item_seconds, cache=cache,
    ) as pictures:  # fmt: skip
        pictures.read(lambda done, n: progress(done, n, "reading pictures") if progress else None)
        failures = pictures.failures
        first = f"the first is {failures[0].text()}" if failures else ""
        refuse_failures("adapt", len(failures), len(pictures.good), fail_threshold, fix=first)
        digests = [pictures.digest, *_others(some, reader)]
        told = labelled(some, pictures.good, digests, group)
        plan = None
        if folds is not None:
            told, plan = plan_of(told, some.id, folds, divide, s.seed, group)
        job = Job(path, encoder, s, some, told, plan, pictures)
        if overwrite:
            job.forget()
        shares = parts(told, plan, divide, s.held_out, s.seed)
        for number, part in enumerate(shares):
            job.train(number, part, shares, progress)
        return job.finish(shares)


def _workers(asked: int | None, device: torch.device) -> int:
    """Decoding processes: half the cores beside training on the CPU, all of them otherwise."""
    if asked is not None:
        return asked
    return max(1, cores() // (2 if device.type == "cpu" else 1))


def _others(items: Items, reader: Reader) -> list[np.ndarray]:
    """(n, 32) digests of the files of each other modality, zeros where there is none to read: the
    same sound under two pictures ties their rows together."""
    out = []
    for modality, paths in items.paths.items():
        if modality == "image":
            continue
        digest = np.zeros((len(items), 32), dtype=np.uint8)
        for row, file in enumerate(paths):
            try:
                data = reader.read(file)[0] if file else b""
            except ItemError:
                continue  # extraction will say so; it ties nothing together
            if file:
                digest[row] = np.frombuffer(hashlib.sha256(data).digest(), dtype=np.uint8)
        out.append(digest)
    return out
