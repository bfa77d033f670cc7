"""One adaptation: its identity, its files, its networks one after the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from headstock.extract.adapt.classified import answers, fresh_model
from headstock.extract.adapt.files import (
    beside,
    load_checkpoint,
    save_checkpoint,
    settings_of,
    write_weights,
)
from headstock.extract.adapt.pictures import Pictures
from headstock.extract.adapt.report import Adapted, predictions_csv, score
from headstock.extract.adapt.rows import Labelled, Part
from headstock.extract.adapt.settings import Settings
from headstock.extract.adapt.train import Training
from headstock.extract.encoders.checkpoint import read_note, read_state_dict
from headstock.extract.encoders.network import NetworkEncoder
from headstock.store import Items
from headstock.store.disk.commit import write_whole
from headstock.store.errors import OptionError
from headstock.store.manifest.classes import join_forms
from headstock.store.manifest.splits import HELD_OUT, in_split
from headstock.store.progress import Report
from headstock.store.seen import Seen

__all__ = ["Job"]


class Job:
    """What ``adapt`` does once the pictures are read: train what is missing, then finish."""

    def __init__(
        self,
        path: Path,
        encoder: NetworkEncoder,
        settings: Settings,
        items: Items,
        told: Labelled,
        plan: Any | None,
        pictures: Pictures,
    ) -> None:
        self.path, self.encoder, self.s, self.items = path, encoder, settings, items
        self.told, self.plan, self.pictures = told, plan, pictures
        network = encoder.network
        self.base = {n: v.clone() for n, v in network.module.state_dict().items()}
        digest = pictures.digest[told.rows]
        held = None if plan is None else plan.codes[0]
        self.seen = Seen.of(digest, held)
        self.recipe: dict[str, Any] = {
            "base": encoder.recipe().fields,
            "source": network.source,
            "settings": settings.to_json(),
            "classes": [str(c) for c in told.classes],
            "rows": len(told.rows),
            "labels": _digest([self.items.id[told.rows].tolist(), told.codes.tolist()]),
            "pictures": hashlib.sha256(digest.tobytes()).hexdigest(),
            "units": _digest(told.units.tolist()),
            "plan": None if plan is None else {**plan.summary(), "of": self.seen.digest},
        }
        self.fingerprint = _digest(self.recipe)
        self.checkpoint = beside(path, "unfinished")

    def file(self, part: Part) -> Path:
        return self.path if part.fold is None else beside(self.path, f"fold{part.fold}.safetensors")

    def forget(self) -> None:
        """Drop what an earlier run of another recipe left."""
        for file in [self.checkpoint, *self._files()]:
            if file.is_file() and self._of(file) != self.fingerprint:
                file.unlink()

    def _files(self) -> list[Path]:
        folds = sorted(self.path.parent.glob(beside(self.path, "fold*.safetensors").name))
        return [self.path, *folds]

    def _of(self, file: Path) -> str | None:
        if file == self.checkpoint:
            saved = load_checkpoint(file)
            return None if saved is None else saved["fingerprint"]
        return read_note(file).get("fingerprint")

    def done(self, file: Path) -> bool:
        """Whether ``file`` is there and of this run. Raises OptionError when it is of another."""
        if not file.is_file():
            return False
        if self._of(file) != self.fingerprint:
            what = "was made with other rows, settings or weights"
            raise OptionError(file, what, "another --output, or --overwrite")
        return True

    def train(
        self, number: int, part: Part, shares: Sequence[Part], progress: Report | None
    ) -> None:
        """Train the network of one part, unless its file is there."""
        file = self.file(part)
        if self.done(file):
            return
        state = None
        if self.done(self.checkpoint):
            saved = load_checkpoint(self.checkpoint)
            assert saved is not None
            state = saved["state"] if saved["number"] == number else None
        training = self._training(number, part, state)
        training.run(_teller(progress, number, [len(p.train) for p in shares]))
        note = {
            "format": "headstock adapted weights",
            "version": 1,
            "fingerprint": self.fingerprint,
            "settings": self._settings(),
            "classes": self.recipe["classes"],
            "adapted": Seen(
                self.seen.keys, self.seen.fold, self.seen.folds, part.fold
            ).to_json(),
            "network": {
                "fold": part.fold,
                "trained_on": len(part.train),
                "watched": len(part.watch),
                "kept": training.kept["epoch"],
                "unchanged": training.kept["trained"] == "classifier",
                "folded_norms": len(training.folded),
                "history": training.history,
                "seconds": training.seconds,
                "pictures_a_second": training.trained / max(training.seconds, 1e-9),
                "device": str(self.encoder.device),
            },
            "recipe": self.recipe,
        }  # fmt: skip
        write_weights(file, training.model.weights(), note)
        self.checkpoint.unlink(missing_ok=True)

    def _settings(self) -> dict[str, Any]:
        network = self.encoder.network
        name = f"{network.library}:{network.architecture}"
        return settings_of(name, network.model_args, network.preprocess)

    def _model(self, number: int) -> Any:
        network = self.encoder.network
        network.module.load_state_dict(self.base)
        model = fresh_model(
            network.module, self.encoder.dim, len(self.told.classes), self.s.seed + 7919 * number
        )
        layout: Any = {"memory_format": torch.channels_last}
        return model.to(self.encoder.device, **layout)

    def _training(self, number: int, part: Part, state: dict[str, Any] | None) -> Training:
        def keep(body: dict[str, Any]) -> None:
            save_checkpoint(
                self.checkpoint,
                {"fingerprint": self.fingerprint, "number": number, "state": body},
            )

        codes = np.full(len(self.items), -1)
        codes[self.told.rows] = self.told.codes
        rows = self.told.rows
        return Training(
            self._model(number), self.pictures, codes, rows[part.train], rows[part.watch],
            self.encoder.network.preprocess, self.s, self.encoder.device, number, keep, state,
        )  # fmt: skip

    def finish(self, shares: Sequence[Part]) -> Adapted:
        """Ask each network for the rows that it did not see, and write it all down."""
        report = Adapted(str(self.path), self.encoder.name, self.recipe["classes"])
        report.recipe, report.failures = self.recipe, self.pictures.failures
        report.left_out = self.told.left_out
        n, k = len(self.told.rows), len(self.told.classes)
        held = np.full((n, k), np.nan)
        model = self._model(0)
        for part in shares:
            file = self.file(part)
            report.networks.append(read_note(file)["network"])
            report.files.append(str(file))
            model.take(read_state_dict(file))
            if part.fold is not None:
                held[part.hidden] = self._ask(model, self.told.rows[part.hidden])
        last = shares[-1]  # the network of all rows, and what it has not trained on
        if self.plan is not None:
            report.scores["out-of-fold"] = score(held, self.told.codes)
            self._write(report, "out-of-fold.csv", self._table(self.told.rows, held))
            self.plan.save(beside(self.path, "folds.json"))
            report.files.append(str(beside(self.path, "folds.json")))
        else:
            watched = self._ask(model, self.told.rows[last.watch])
            report.scores["held-out"] = score(watched, self.told.codes[last.watch])
        self._others(report, model)
        card = {**self._settings(), **json.loads(report.to_json())}
        self._write(report, "json", json.dumps(card, indent=1).encode())
        return report

    def _others(self, report: Adapted, model: Any) -> None:
        """Answers for the rows outside the training split, and their score where labels are."""
        others = self.pictures.good.copy()
        others[self.told.rows] = False
        rows = np.flatnonzero(others)
        if not len(rows):
            return
        said = self._ask(model, rows)
        self._write(report, "test.csv", self._table(rows, said))
        where = {str(c): code for code, c in enumerate(self.told.classes)}
        labels = np.array(join_forms(self.items.label.tolist())[0], dtype=object)
        codes = np.array([where.get(str(label), -1) for label in labels[rows]])
        for split in HELD_OUT:
            asked = (codes >= 0) & in_split(self.items.split[rows], split)
            if asked.any():
                report.scores[split] = score(said[asked], codes[asked])

    def _ask(self, model: Any, rows: np.ndarray) -> np.ndarray:
        return answers(
            model, self.pictures, rows, self.encoder.network.preprocess, self.encoder.device,
            self.s.precision, 4 * self.s.batch_size,
        )  # fmt: skip

    def _table(self, rows: np.ndarray, said: np.ndarray) -> bytes:
        return predictions_csv(self.items.id[rows].tolist(), self.recipe["classes"], said)

    def _write(self, report: Adapted, tail: str, content: bytes) -> None:
        file = beside(self.path, tail)
        write_whole(file, content)
        report.files.append(str(file))


def _teller(
    progress: Report | None, number: int, sizes: Sequence[int]
) -> Callable[[Training], None]:
    """Tells after each step how many pictures were trained on, of all that are planned."""
    if progress is None:
        return lambda training: None

    def tell(training: Training) -> None:
        left = training.left() + sum(sizes[number + 1 :]) * training.epochs
        total = sum(sizes) * training.epochs
        epoch = f"epoch {len(training.history) + 1} of {training.epochs}"
        loss = float(np.mean(training.losses[-20:]))
        what = f"network {number + 1} of {len(sizes)}, {epoch}, loss {loss:.2f}"
        progress(total - left, total, what)

    return tell


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
