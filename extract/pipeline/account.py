"""The closing account of an extraction: what was done, what failed, and where the time went."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import headstock
from headstock.extract.pipeline.holdings import Holdings
from headstock.extract.pipeline.pending import Pending
from headstock.store.cores import cores
from headstock.store.datafile import outside_folder
from headstock.store.disk.commit import write_whole
from headstock.store.errors import TooManyFailures, one_line

__all__ = ["JUDGED", "Account", "Failure", "SetAccount", "known_failures", "refuse_failures"]

SHOWN = 10
JUDGED = 20  # rows before a share of failures means anything, while there are more to come


@dataclass(frozen=True, slots=True)  # there may be as many as rows
class Failure:
    """One row that has no vector: ``code`` to count by, ``line`` to read. ``known``: it failed in
    an earlier run and was not tried again."""

    id: str
    code: str
    line: str
    known: bool = False

    def text(self) -> str:
        """One line; the id is left out where the line begins with it."""
        same = self.line.startswith(f"{self.id}: ")
        return self.line if same else f"{one_line(self.id, 60)}: {self.line}"


def known_failures(plan: Pending, rows: Iterable[int]) -> list[Failure]:
    """What the store says of ``rows``, which failed before and are not tried again."""
    known = [plan.errors[row] for row in rows if row in plan.errors]
    return [Failure(error.id, error.code, error.line, known=True) for error in known]


@dataclass
class SetAccount:
    """One feature set. Rows: ``done`` computed now, ``reused`` taken over (already in the store, or
    same bytes elsewhere), ``failed``, ``missing`` without a path, ``left`` beyond a limit or a
    stop, ``unseen`` that keep the vector of an earlier run although their file was not seen in
    this. ``encoded`` items went through the encoder in ``calls`` batches, computed by ``runtime``
    at ``precision``, from pictures decoded as ``decode`` says; ``beside``: sets filled in the same
    pass, whose read, decode, transform and wait are the same seconds; ``notes``: what should be
    known. Seconds: ``read``, ``decode`` and ``transform`` (resize, crop; MFCC) summed over workers;
    ``transfer`` to and from a device, ``start`` (preparing and proving the runtime), ``model``,
    ``wait`` (for workers) and ``total`` on the clock; ``commit`` beside them in the writer.
    ``memory``: peak bytes so far of this process (``host``), of its largest worker (``worker``) and
    of the accelerator (``device``)."""

    name: str
    encoder: str = ""
    done: int = 0
    reused: int = 0
    failed: int = 0
    missing: int = 0
    left: int = 0
    encoded: int = 0
    calls: int = 0
    workers: int = 0
    runtime: str = ""
    precision: str = ""
    decode: str = ""
    beside: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(
            "read decode transform transfer start model wait commit total".split(), 0.0
        )
    )
    memory: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    unseen: list[Failure] = field(default_factory=list)

    @property
    def tried(self) -> int:
        """Rows that have a vector or were found to have none."""
        return self.done + self.reused + self.failed

    @property
    def codes(self) -> dict[str, int]:
        """Failed rows by code, most frequent first."""
        return dict(Counter(f.code for f in self.failures).most_common())

    @property
    def busy(self) -> float:
        """The share of the time that the model computed, 0..1."""
        return self.seconds["model"] / self.seconds["total"] if self.seconds["total"] else 0.0

    def advice(self) -> str:
        """What would make the next run faster; empty when the model is the limit."""
        s, have = self.seconds, cores()
        total, waited = s["total"], s["wait"]
        if total < 5:
            return ""
        if waited >= 0.25 * total:
            lost = f"the model waited {waited:.0f} of {total:.0f} s for files"
            if s["read"] > s["decode"] + s["transform"]:
                return f"{lost}, most of it for reading: copy them to a nearer disk, or more -j"
            useful = min(have, self.encoded + self.failed)
            if self.workers < useful:
                return f"{lost}: try more workers (-j {useful})"
            if useful < have:
                return ""  # a worker a file
            if self.decode == "full":
                return f"{lost} on all {have} cores: try --decode fast, or more cores"
            return f"{lost} on all {have} cores: more of them would help" if self.decode else ""
        if s["commit"] > 0.5 * total:
            return f"writing took {s['commit']:.0f} of {total:.0f} s: a bigger batch (-b), or disk"
        if s["transfer"] > 0.25 * max(s["model"], 1e-9) and self.calls > 4:
            return f"{s['transfer']:.0f} s went into transfers: try a bigger batch (-b)"
        return ""

    def text(self, short: bool = False) -> str:
        """Some lines for people; ``short``: what was done and what failed, not where time went."""
        s = self.seconds
        rate = f", {self.encoded / s['total']:.1f} a second" if s["total"] and self.encoded else ""
        lines = [
            f"{self.name}: {self.done} done, {self.reused} reused, {self.failed} failed, "
            f"{self.missing} without a file"
            + (f", {self.left} left" if self.left else "")
            + (f"  [{self.encoder}]" if self.encoder else "")
        ]
        if not short and self.encoder and (s["read"] or self.encoded):  # else nothing was opened
            how = " ".join(word for word in (self.runtime, self.precision) if word)
            lines.append(
                f"  {s['total']:.1f} s{rate}; model {s['model']:.1f} s ({self.busy:.0%} busy"
                + (f", {how}" if how else "")
                + f"), reading {s['read']:.1f} s, decoding {s['decode']:.1f} s and transforming "
                f"{s['transform']:.1f} s in {self.workers} workers, "
                + (f"starting {s['start']:.1f} s, " if s["start"] >= 0.1 else "")
                + (f"transfers {s['transfer']:.1f} s, " if s["transfer"] >= 0.1 else "")
                + f"writing {s['commit']:.1f} s"
                + "".join(f", {k} {v / 2**20:,.0f} MiB" for k, v in self.memory.items() if v)
            )
            if self.beside and self.encoded:
                lines.append(f"  in one pass with {', '.join(dict.fromkeys(self.beside))}")
        if not short:
            lines += [f"  {note}" for note in dict.fromkeys(self.notes)]
        if self.failures:
            counts = ", ".join(f"{n} {code}" for code, n in self.codes.items())
            lines.append(f"  failed: {counts}")
            outside, others = _by_place(self.failures)
            lines += [f"    {line}" for line in outside]
            lines += [f"    {f.text()}" for f in others[:SHOWN]]
            if len(others) > SHOWN:
                more = len(others) - SHOWN
                lines.append(f"    and {more} more: headstock store info --failed")
        if self.unseen:
            codes = Counter(f.code for f in self.unseen).most_common()
            counts = ", ".join(f"{n} {code}" for code, n in codes)
            lines.append(f"  {len(self.unseen)} not seen this time, their vectors stay: {counts}")
            lines += [f"    {f.text()}" for f in self.unseen[:SHOWN]]
        if advice := self.advice():
            lines.append(f"  {advice}")
        return "\n".join(lines)


def refuse_failures(
    where: str,
    failed: int,
    tried: int,
    threshold: float | None,
    least: int = 1,
    fix: str = "what was done is kept; look at the errors, or raise --fail-threshold",
) -> None:
    """Raises TooManyFailures when more than the share ``threshold`` of the rows that were ``tried``
    have failed; fewer than ``least`` say nothing yet."""
    if threshold is not None and tried >= least and failed > threshold * tried:
        what = f"{failed} of {tried} rows failed, more than {threshold:.0%}"
        raise TooManyFailures(where, what, fix)


def _by_place(failures: Sequence[Failure]) -> tuple[list[str], list[Failure]]:
    """One line for all rows outside the data root, and the failures of any other kind."""
    folders = {f.id: outside_folder(f.line) for f in failures}
    out = [f for f in failures if folders[f.id] is not None]
    if len(out) < 2:
        return [], list(failures)
    places = sorted({str(folders[f.id]) for f in out})
    common = os.path.commonpath(places)
    # of places that share nothing the widest folder would let everything in
    roots = [common] if common != os.path.sep else places[:SHOWN]
    flags = " ".join(f"--data-root {shlex.quote(root)}" for root in roots)
    line = (
        f"{len(out)} rows lie outside the data root (first: {one_line(out[0].id, 60)}): {flags} "
        "lets them in, --allow-outside any; they are then tried again by themselves"
    )
    return [line], [f for f in failures if folders[f.id] is None]


@dataclass
class Account:
    """What ``extract`` returns: one SetAccount a feature set, by name. ``fingerprints``: of what
    copies are found by; ``rows``: what the store holds then, and ``ids``: those of the table's rows
    in it, where whoever asked knew the table."""

    sets: dict[str, SetAccount] = field(default_factory=dict)
    fingerprints: dict[str, SetAccount] = field(default_factory=dict)
    rows: Holdings | None = None
    ids: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        return sum(s.done for s in self.sets.values())

    @property
    def reused(self) -> int:
        return sum(s.reused for s in self.sets.values())

    @property
    def failed(self) -> int:
        return sum(s.failed for s in self.sets.values())

    @property
    def calls(self) -> int:
        """Encoder calls."""
        return sum(s.calls for s in self.sets.values())

    @property
    def failures(self) -> list[Failure]:
        return [f for s in self.sets.values() for f in s.failures]

    def set_apart(self, names: Iterable[str]) -> None:
        """Take the fingerprints from among the sets that were asked for."""
        self.fingerprints = {n: self.sets.pop(n) for n in names if n in self.sets}
        for one in self.sets.values():
            one.beside = [other for other in one.beside if other not in self.fingerprints]

    def add_columns(
        self, counts: Mapping[str, Mapping[str, int]], notes: Mapping[str, list[str]]
    ) -> None:
        """Add sets that came from the manifest's columns: ``{set: {done, reused, ...}}``, and what
        should be known of each."""
        for name, count in counts.items():
            known = {k: int(v) for k, v in count.items() if k in SetAccount.__dataclass_fields__}
            self.sets[name] = SetAccount(name, notes=notes[name], **known)  # type: ignore[arg-type]

    def text(self, short: bool = False) -> str:
        """The account for people."""
        lines = [s.text(short) for s in self.sets.values()]
        if self.fingerprints and not short and any(s.encoded for s in self.fingerprints.values()):
            filled = ", ".join(f"{n} {s.done:,}" for n, s in self.fingerprints.items())
            lines.append(f"  to find copies by: {filled}")
        return "\n".join([*lines, self.rows.text(short)] if self.rows else lines)

    def to_json(self) -> str:
        """The account for scripts: ``{"sets": {name: {...}}, "fingerprints": {name:
        {"done": ..., "reused": ..., "failed": ...}}, "store": {...}}``."""
        store = {"store": self.rows.to_json()} if self.rows else {}
        body = {"sets": self._body(), **self._beside(), **store}
        return json.dumps(body, indent=2, allow_nan=False)

    def _beside(self) -> dict[str, Any]:
        keys = ("done", "reused", "failed", "left")
        told = {n: {k: getattr(s, k) for k in keys} for n, s in self.fingerprints.items()}
        return {"fingerprints": told} if told else {}

    def save(self, path: str | Path) -> None:
        """Write the account with date, version and machine to ``path``, durably; nothing when no
        set computed anything, so that the last run that did stays on record. Raises StorageError.
        """
        if not any(one.calls for one in self.sets.values()):
            return
        about = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "headstock": headstock.__version__,
            "machine": f"{platform.machine()}, {cores()} cores",
        }
        body = json.dumps({**about, "sets": self._body()}, indent=2, allow_nan=False)
        write_whole(Path(path), body.encode())

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = {}
        for name, account in self.sets.items():
            s = account.seconds
            extra = {
                "codes": account.codes,
                "busy": account.busy,
                "items_a_second": account.encoded / s["total"] if s["total"] else 0.0,
                "advice": account.advice(),
            }
            body[name] = asdict(account) | extra
        return body
