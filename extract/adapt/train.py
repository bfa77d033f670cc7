"""Training one network: the classifier first, then everything, checkpointed at any step.

All chance in a step (order, views, dropout) comes from the seed and the step's number, so a run
that was killed and went on gives what one that was not killed gives.

Letters: b batch, k classes, d features.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headstock.extract.adapt.augment import mixed, views
from headstock.extract.adapt.classified import Classified, answers, cast, moved
from headstock.extract.adapt.pictures import Pictures
from headstock.extract.adapt.settings import Settings
from headstock.extract.decode.preprocess import Preprocess
from headstock.store.errors import OptionError

__all__ = ["Training", "one_cycle"]

SAVED = 30.0  # seconds between two checkpoints
START, END = 1 / 25, 1e-4  # of the peak rate, at the beginning and the end of a phase


def one_cycle(at: float, warmup: float) -> float:
    """The rate's share of its peak at ``at`` (0 to 1) of a phase: a climb and a descent, both half
    a cosine (Smith and Topin 2018, in the two-phase form that libraries settled on)."""

    def between(a: float, b: float, share: float) -> float:
        return b + (a - b) * (1 + math.cos(math.pi * share)) / 2

    if at < warmup:
        return between(START, 1.0, at / warmup)
    return between(1.0, END, (at - warmup) / max(1 - warmup, 1e-9))


class Training:
    """One network on one part of the rows.

    codes (n,) of all rows that ``pictures`` holds; ``train`` and ``watch`` are row numbers among
    them. ``number`` tells networks of one adaptation apart, for the seed. ``state`` is what an
    earlier run had handed to ``keep``, which is called at checkpoints.
    """

    def __init__(
        self,
        model: Classified,
        pictures: Pictures,
        codes: np.ndarray,
        train: np.ndarray,
        watch: np.ndarray,
        preprocess: Preprocess,
        settings: Settings,
        device: torch.device,
        number: int,
        keep: Callable[[dict[str, Any]], None],
        state: dict[str, Any] | None = None,
    ) -> None:
        self.model, self.pictures, self.codes = model, pictures, codes
        self.train, self.watch, self.preprocess = train, watch, preprocess
        self.s, self.device, self.number, self._keep = settings, device, number, keep
        self.k = model.classifier.out_features
        self.steps = -(-len(train) // settings.batch_size)
        self.epochs = settings.alone + settings.epochs
        self.optimizer = torch.optim.AdamW(_groups(model, settings), lr=settings.lr)
        scaled = settings.precision == "fp16"
        self.scaler = torch.amp.GradScaler(device.type, enabled=scaled)  # type: ignore[attr-defined]
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] | None = None
        self.losses: list[float] = []
        self.step, self.seconds, self.trained = 0, 0.0, 0
        self.folded = [] if settings.from_scratch else _folded(model.backbone)
        if state is not None:
            model.take(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            for name in ("history", "best", "step", "losses", "seconds", "trained"):
                setattr(self, name, state[name])

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on."""
        return {
            "model": self.model.weights(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            **{n: getattr(self, n) for n in ("history", "best", "step", "losses")},
            "seconds": self.seconds, "trained": self.trained,
        }  # fmt: skip

    def run(self, tell: Callable[[Training], None] = lambda training: None) -> None:
        """Train to the end; the model then has the weights of the best epoch.

        ``tell`` is called after each step. A KeyboardInterrupt saves first. Raises OptionError when
        memory runs out or the loss is no number any more.
        """
        try:
            with torch.random.fork_rng(devices=_cards(self.device)):
                while not self._over():
                    self._epoch(tell)
        except KeyboardInterrupt:
            self._keep(self.state())
            raise
        except RuntimeError as error:
            if "out of memory" not in str(error).lower() and "not enough mem" not in str(error):
                raise
            what = f"does not fit into the memory of {self.device}"
            raise OptionError(f"batch-size {self.s.batch_size}", what, "a smaller one") from error
        assert self.best is not None
        self.model.take(self.best)

    @property
    def kept(self) -> dict[str, Any]:
        """The line of the history whose weights are kept."""
        return min(self.history, key=lambda line: line["log_loss"])

    def left(self) -> int:
        """Pictures still to train on, if nothing stops early."""
        epochs = self.epochs - len(self.history)
        return epochs * len(self.train) - self.step * len(self.train) // self.steps

    def _over(self) -> bool:
        done = len(self.history)
        if done < self.epochs and done <= self.s.alone:
            return False
        # The classifier's own phase ends on its plan: what it ends at is where the rest begins
        since = done - max(self.kept["epoch"], self.s.alone)
        return done >= self.epochs or since >= self.s.patience

    def _epoch(self, tell: Callable[[Training], None]) -> None:
        epoch, saved, begin = len(self.history), time.monotonic(), time.perf_counter()
        order = np.random.default_rng([self.s.seed, self.number, epoch]).permutation(self.train)
        parts = np.array_split(order, self.steps)[self.step :]
        self._mode(epoch)
        for rows, pixels in zip(parts, self.pictures.batches(parts)):
            loss = self._learn(epoch, rows, pixels)
            self.losses.append(loss)
            self.step += 1
            self.trained += len(rows)
            now = time.perf_counter()
            self.seconds += now - begin
            begin = now
            tell(self)
            if time.monotonic() - saved > SAVED:
                self._keep(self.state())
                saved = time.monotonic()
        self._close(epoch)

    def _close(self, epoch: int) -> None:
        """Judge the epoch on the held-out part, and remember it."""
        said = answers(
            self.model, self.pictures, self.watch, self.preprocess, self.device,
            self.s.precision, 4 * self.s.batch_size,
        )  # fmt: skip
        own = self.codes[self.watch]
        line: dict[str, Any] = {
            "epoch": epoch + 1,
            "trained": "classifier" if epoch < self.s.alone else "all",
            "loss": float(np.mean(self.losses)),
            "log_loss": float(-said[np.arange(len(own)), own].mean()),
            "errors": int((said.argmax(axis=1) != own).sum()),
            "n": len(own),
        }
        if not math.isfinite(line["loss"]) or not math.isfinite(line["log_loss"]):
            what = f"the loss is no number any more in epoch {epoch + 1}"
            raise OptionError(f"lr {self.s.lr}", what, "a smaller --lr, or fp32")
        if not self.history or line["log_loss"] < self.kept["log_loss"]:
            self.best = self.model.weights()
        self.history.append(line)
        self.step, self.losses = 0, []
        self._keep(self.state())

    def _mode(self, epoch: int) -> None:
        """What learns in this epoch; a frozen backbone answers as it does in extraction."""
        alone = epoch < self.s.alone
        self.model.train()
        self.model.backbone.train(not alone)
        self.model.backbone.requires_grad_(not alone)
        kept = not self.s.train_norm and not self.s.from_scratch
        for module in _norms(self.model.backbone) if kept else self.folded:
            module.eval()

    def _learn(self, epoch: int, rows: np.ndarray, pixels: np.ndarray) -> float:
        s = self.s
        begin, end = (0, s.alone) if epoch < s.alone else (s.alone, self.epochs)
        share = (epoch - begin + self.step / self.steps) / (end - begin)
        for group in self.optimizer.param_groups:
            group["lr"] = s.lr * group["share"] * one_cycle(share, s.warmup)
        chance = np.random.SeedSequence([s.seed, self.number, epoch, self.step])
        drawn = int(chance.generate_state(1, np.uint64)[0] >> np.uint64(1))
        torch.manual_seed(drawn)
        g = torch.Generator().manual_seed(drawn)
        x = views(moved(pixels, self.device), self.preprocess, s, g)
        x = x.contiguous(memory_format=torch.channels_last)
        y = torch.from_numpy(self.codes[rows]).to(self.device)
        x, target = mixed(x, F.one_hot(y, self.k).to(x.dtype), s, g)
        self.optimizer.zero_grad(set_to_none=True)
        with cast(self.device, s.precision):
            logits = self.model(x)
        loss = F.cross_entropy(logits.float(), target, label_smoothing=s.smoothing)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return float(loss.detach())


def _norms(backbone: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [m for m in backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def _folded(backbone: nn.Module) -> list[nn.Module]:
    """Batch normalisations of pretrained weights that hold no statistics (a mean of 0, a variance
    of 1, or of 1 less their epsilon): those were folded into the convolutions, and normalising by a
    batch's own would undo what was learned."""
    return [
        m for m in _norms(backbone)
        if isinstance(m.running_mean, Tensor) and isinstance(m.running_var, Tensor)
        and not m.running_mean.any() and bool(((m.running_var - 1).abs() <= 2 * m.eps).all())
    ]  # fmt: skip


def _groups(model: Classified, s: Settings) -> list[dict[str, Any]]:
    """Backbone and classifier, each with and without weight decay (none for biases and norms);
    ``share`` is the part of the peak rate."""
    whole = 1.0 if s.from_scratch else s.backbone_lr
    out = []
    for module, share in ((model.backbone, whole), (model.classifier, 1.0)):
        for decayed in (True, False):
            own = [p for p in module.parameters() if (p.ndim > 1) == decayed]
            decay = s.weight_decay if decayed else 0.0
            out.append({"params": own, "weight_decay": decay, "share": share})
    return [group for group in out if group["params"]]


def _cards(device: torch.device) -> Sequence[Any]:
    return [device] if device.type == "cuda" else []
