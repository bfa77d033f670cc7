"""Pretrain `resnext_nano`, a ResNeXt of 1.9 M parameters for 64-pixel pictures, on a CPU.

    python examples/pretrain/train.py tiny_imagenet_48k.zip --teacher mobilenetv2_100.safetensors
    python examples/pretrain/train.py ... --after resnext_nano.safetensors   # the second training

The pictures are a zip file or a folder holding `train/<class>/*` and `val/<class>/*`; without that
split, every tenth picture of `<class>/*` validates. Everything slow is kept under `--work` and
picked up again after a kill: decoded pictures, the teacher's outputs, one checkpoint an epoch.

Letters: n pictures, b batch, k classes, d teacher features.
"""

from __future__ import annotations

import json
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import click
import numpy as np
import timm
import torch
import torch.nn.functional as F
from glyphs import alphabet, draw
from pictures import load_data, random_boxes, recolour, to_batch
from safetensors.torch import load_file, save
from settings import ARCHITECTURE, MEAN, MODEL_ARGS, SECOND, SIZE, STD, Settings
from teacher import teach
from torch import Tensor, nn


def mix(x: Tensor, kind: float, share: float, g: torch.Generator) -> tuple[Tensor, float]:
    """Every picture with its opposite in the batch, and the weight that its own target keeps."""
    lam = torch.rand(1, generator=g).item()
    if kind > share:
        return x, 1.0
    if kind > share / 2:
        return lam * x + (1 - lam) * x.flip(0), lam
    h, w = x.shape[2:]
    ch, cw = round(h * math.sqrt(1 - lam)), round(w * math.sqrt(1 - lam))
    top = int(torch.randint(h - ch + 1, (1,), generator=g))
    left = int(torch.randint(w - cw + 1, (1,), generator=g))
    out = x.clone()
    out[:, :, top : top + ch, left : left + cw] = x.flip(0)[:, :, top : top + ch, left : left + cw]
    return out, 1 - ch * cw / (h * w)


def build(classes: int, s: Settings) -> nn.Module:
    """The network with random weights."""
    return timm.create_model(
        ARCHITECTURE, num_classes=classes, output_stride=s.stride, **MODEL_ARGS
    )


class Student(nn.Module):
    """The network, and two linear maps of its embedding that are thrown away in the end."""

    def __init__(self, classes: int, d: int, s: Settings) -> None:
        super().__init__()
        self.net = build(classes, s)
        self.to_teacher = nn.Linear(self.net.num_features, d)
        self.to_glyph = nn.Linear(self.net.num_features, s.glyph_classes)

    def forward(self, x: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """(b, 3, h, w), n pictures and then glyphs -> logits (n, k), features (n, d), glyphs."""
        e = self.net.forward_head(self.net.forward_features(x), pre_logits=True)
        p = e[:n]
        return self.net.fc(p).float(), self.to_teacher(p).float(), self.to_glyph(e[n:]).float()


def accuracy(net: nn.Module, x: np.ndarray, y: np.ndarray, device: str, fast: bool) -> float:
    """Top-1 of (n, 64, 64, 3) uint8 pictures."""
    net.eval()
    right = 0
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=fast):
        for i in range(0, len(x), 250):
            out = net(to_batch(x[i : i + 250], None, SIZE).to(device)).argmax(1).cpu().numpy()
            right += int((out == y[i : i + 250]).sum())
    return right / len(x)


class Training:
    """One run: the student, its average, the optimiser and how far it is."""

    def __init__(
        self,
        data: dict,
        taught: dict | None,
        s: Settings,
        work: Path,
        device: str,
        after: Path | None = None,
    ):
        self.data, self.taught, self.s, self.device = data, taught, s, device
        self.checkpoint = work / ("second.pt" if after else "checkpoint.pt")
        torch.manual_seed(s.seed)
        self.letters = alphabet(s.glyph_classes, s.seed)
        k = len(data["classes"])
        d = taught["features"].shape[2] if taught else 1
        self.student = Student(k, d, s).to(device, memory_format=torch.channels_last)
        self.average = Student(k, d, s).to(device, memory_format=torch.channels_last)
        if after:
            self.student.net.load_state_dict(load_file(after))
        self.average.load_state_dict(self.student.state_dict())
        weights = [p for p in self.student.parameters() if p.ndim > 1]
        others = [p for p in self.student.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": weights}, {"params": others, "weight_decay": 0.0}],
            s.lr,
            weight_decay=s.weight_decay,
        )
        self.history: list[dict] = []
        if taught:
            whole = taught["features"][:, 0].astype(np.float32)
            self.centre = torch.from_numpy(whole.mean(0))
            self.spread = torch.from_numpy(whole.std(0) + 1e-3)
        if self.checkpoint.exists():
            saved = torch.load(self.checkpoint, weights_only=True)
            self.student.load_state_dict(saved["student"])
            self.average.load_state_dict(saved["average"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.history = saved["history"]

    def save(self) -> None:
        """One file, replaced whole: a kill leaves the old one or the new one."""
        new = self.checkpoint.with_suffix(".new")
        torch.save(
            {
                "student": self.student.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "history": self.history,
            },
            new,
        )
        new.replace(self.checkpoint)

    def loss(self, student: Student, step: int, size: int, rows: np.ndarray, glyphs: int) -> Tensor:
        """The label, teacher-logit, teacher-feature and glyph losses of a batch, weighted.

        All chance in it comes from the seed and `step`, whichever worker it falls to.
        """
        s, device = self.s, self.device
        g = torch.Generator().manual_seed(s.seed * 10**6 + step)
        view = torch.randint(s.views, (len(rows),), generator=g).numpy()
        if self.taught:
            boxes = torch.from_numpy(self.taught["boxes"][rows, view])
        else:
            boxes = random_boxes(len(rows), s.crop_area, g)
        mirror = torch.where(torch.rand(len(rows), 1, generator=g) < 0.5, -1.0, 1.0)
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:3] * mirror, boxes[:, 3:]], 1)
        x = recolour(to_batch(self.data["x"][rows], boxes, size), s, g)
        x, lam = mix(x, torch.rand(1, generator=g).item(), s.mix, g)
        letter = torch.randint(s.glyph_classes, (glyphs,), generator=g)
        if glyphs:
            coarse = s.coarse if len(self.history) >= s.coarse_start else 0.0
            x = torch.cat([x, draw(self.letters[letter], size, coarse, g)])
        x = x.to(device, memory_format=torch.channels_last)
        y = torch.from_numpy(self.data["y"][rows]).to(device)
        with torch.autocast(device, torch.bfloat16):
            logits, features, drawn = student(x, len(rows))

        def ce(target: Tensor) -> Tensor:
            return F.cross_entropy(logits, target, label_smoothing=s.smoothing)

        total = lam * ce(y) + (1 - lam) * ce(y.flip(0))
        total = s.label_weight * total
        if glyphs:
            total = total + s.glyph_weight * F.cross_entropy(drawn, letter.to(device))
        if self.taught is None:
            return total
        if "logits" in self.taught and s.logit_weight:
            t = torch.from_numpy(self.taught["logits"][rows, view]).float().to(device)
            p = (t / s.temperature).softmax(1)
            p = lam * p + (1 - lam) * p.flip(0)
            soft = F.cross_entropy(logits / s.temperature, p)
            total = total + s.logit_weight * s.temperature**2 * soft
        f = torch.from_numpy(self.taught["features"][rows, view]).float()
        f = ((f - self.centre) / self.spread).to(device)
        f = lam * f + (1 - lam) * f.flip(0)
        return total + s.feature_weight * (1 - F.cosine_similarity(features, f)).mean()

    def epoch(self) -> None:
        """One pass by `workers` threads that each take the next batch when they are free.

        A worker computes on its own copy with one thread of arithmetic and hands its gradient in,
        so the others have stepped meanwhile (by about one step). Nobody waits at a barrier: two
        threads that share every operation came to a standstill on cores that others use too.
        """
        s, n, done = self.s, len(self.data["x"]), len(self.history)
        g = torch.Generator().manual_seed(s.seed * 1000 + done)
        order = torch.randperm(n, generator=g).numpy()
        size = s.small_size if done < s.small_share * s.epochs else SIZE
        glyphs = s.glyphs if done >= s.glyph_start else 0
        pictures = s.batch - glyphs  # in a batch
        steps, losses, lock = n // pictures, [], threading.Lock()
        start, used, queue = time.time(), time.process_time(), iter(range(steps))
        mine, mine_buffers = list(self.student.parameters()), list(self.student.buffers())

        def work(copy: Student) -> None:
            torch.set_num_threads(1)  # holds for the calling thread
            theirs, their_buffers = list(copy.parameters()), list(copy.buffers())
            while True:
                with lock, torch.no_grad():
                    if (step := next(queue, None)) is None:
                        return
                    torch._foreach_copy_(theirs, mine)
                    torch._foreach_copy_(their_buffers, mine_buffers)
                rows = order[step * pictures : (step + 1) * pictures]
                loss = self.loss(copy, done * steps + step, size, rows, glyphs)
                grads = torch.autograd.grad(loss, theirs, allow_unused=True)
                with lock:
                    for p, grad in zip(mine, grads, strict=True):
                        p.grad = grad
                    at = done + len(losses) / steps
                    rate = s.lr * min(1.0, (at + 1 / steps) / s.warmup)
                    for group in self.optimizer.param_groups:
                        group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * at / s.epochs))
                    self.optimizer.step()
                    with torch.no_grad():
                        torch._foreach_copy_(mine_buffers, their_buffers)
                    self.follow(done * steps + len(losses))
                    losses.append(loss.item())
                    if len(losses) % 50 == 0:
                        click.echo(
                            f"  step {len(losses)} of {steps}, loss {losses[-1]:.3f}, "
                            f"{time.time() - start:.0f} s"
                        )

        with ThreadPoolExecutor(s.workers) as pool:
            copies = [deepcopy(self.student).train() for _ in range(s.workers)]
            list(pool.map(work, copies))  # list: raises what a worker raised
        seconds, cpu = time.time() - start, time.process_time() - used
        top1 = accuracy(self.average.net, self.data["vx"], self.data["vy"], self.device, fast=True)
        self.history.append(
            {
                "epoch": done + 1,
                "size": size,
                "loss": float(np.mean(losses)),
                "top1": top1,
                "seconds": round(seconds, 1),
                "cpu_seconds": round(cpu, 1),
            }
        )
        click.echo(json.dumps(self.history[-1]))
        self.save()

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the average towards the student, faster in the first steps."""
        keep = min(self.s.ema, (1 + step) / (10 + step))
        mine, theirs = self.average.state_dict(), self.student.state_dict()
        real = [name for name, t in theirs.items() if t.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in real], [theirs[n] for n in real], 1 - keep)

    def export(self, out: Path, about: dict) -> None:
        """Write OUT.safetensors (half precision) and OUT.json, with its top-1."""
        state = {
            n: (t.half() if t.is_floating_point() else t).contiguous().cpu()
            for n, t in self.average.net.state_dict().items()
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_suffix(".safetensors").write_bytes(save(state))
        net = build(len(self.data["classes"]), self.s)
        net.load_state_dict(load_file(out.with_suffix(".safetensors")))
        last = len(self.history) == self.s.epochs  # the figure that is quoted: single precision
        top1 = accuracy(net, self.data["vx"], self.data["vy"], "cpu", fast=not last)
        card = {
            "architecture": f"timm:{ARCHITECTURE}",
            "model_args": {**MODEL_ARGS, "output_stride": self.s.stride},
            "input_size": [3, SIZE, SIZE],
            "crop_pct": 1.0,
            "interpolation": "bicubic",
            "mean": MEAN,
            "std": STD,
            "validation_top1": round(top1, 4),
            "epochs": len(self.history),
            **about,
            "settings": asdict(self.s),
            "classes": [str(c) for c in self.data["classes"]],
        }
        out.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")


@click.command(help=__doc__)
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--teacher",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="timm's mobilenetv2_100 (pad_type='same'); without one, labels alone.",
)
@click.option(
    "--exclude",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    help="Pictures that must not be trained on, nor anything that looks like them.",
)
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/pretrain"))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("resnext_nano"),
    help="Written as OUT.safetensors and OUT.json every 4 epochs.",
)
@click.option(
    "--after",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Weights of a first training: continue with the settings SECOND.",
)
@click.option("--epochs", type=int, help="Default: the settings'.")
@click.option("--workers", default=Settings.workers, show_default=True, help="Threads.")
@click.option("--device", default="cpu", show_default=True)
def main(
    source: Path,
    teacher: Path | None,
    exclude: tuple[Path, ...],
    work: Path,
    out: Path,
    after: Path | None,
    epochs: int | None,
    workers: int,
    device: str,
) -> None:
    torch.set_num_threads(workers)
    work.mkdir(parents=True, exist_ok=True)
    s = replace(SECOND if after else Settings(), workers=workers)
    s = replace(s, epochs=epochs or s.epochs)
    data = load_data(source, exclude, work, s)
    if len(data["x"]) < s.batch:
        raise click.UsageError(f"{source}: {len(data['x'])} training pictures; {s.batch} or more")
    taught = teach(teacher, data, work, s) if teacher else None
    run = Training(data, taught, s, work, device, after)
    about = {
        "data": source.name,
        "pictures": len(data["x"]),
        "teacher": teacher.name if teacher else None,
        "after": after.name if after else None,
    }
    while len(run.history) < s.epochs:
        run.epoch()
        if len(run.history) == 1 or len(run.history) % 4 == 0 or len(run.history) == s.epochs:
            run.export(out, about)


if __name__ == "__main__":
    main()
