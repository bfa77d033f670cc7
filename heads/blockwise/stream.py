"""Fitting and scoring heads on a store whose rows are never all in memory (see ``passes``)."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock import __version__
from headstock.heads.blockwise.blocks import HELD, Block, Streamed, read_streamed
from headstock.heads.blockwise.passes import learn
from headstock.heads.bundle.bundle import Bundle
from headstock.heads.bundle.members import Member
from headstock.heads.evaluate_store import recipe_of
from headstock.heads.evaluation.checks import checked
from headstock.heads.evaluation.ledger import SHOWN, keep_chosen, look, split_digest
from headstock.heads.head import head_options
from headstock.heads.kinds.linear import Linear
from headstock.heads.result import Result
from headstock.heads.rows.folds import unlearned_notes
from headstock.heads.rows.labelled import columns_of, parts_of
from headstock.heads.rows.leaks import SAMPLE, asked_sets, suspects_in
from headstock.heads.run.as_json import parse, plain
from headstock.heads.run.rows import Account, Fold, Hygiene, Leak, Looks, Plan
from headstock.heads.run.run import Run, Settings
from headstock.heads.run.scores import Line
from headstock.heads.solvers.calibration import UNCALIBRATED, none_left
from headstock.heads.solvers.scaling import Standard
from headstock.heads.specs import NUMBER
from headstock.heads.statistics.chance import chance_p
from headstock.heads.statistics.figures import figures
from headstock.heads.statistics.metrics import ByRow
from headstock.store.errors import OptionError
from headstock.store.manifest.target import found_target

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["STREAMED", "evaluate_streamed", "fit_streamed"]

STREAMED = ("lda", "ridge", "logistic")


USUAL = {"repeats": 1, "dedupe": "group", "seen": "refuse", "rare": "drop", "reuse": True}


def _refuse(others: Mapping[str, Any]) -> None:
    for name, value in others.items():
        if value and value != USUAL.get(name):
            flag = "--" + name.rstrip("s").replace("_", "-")
            raise OptionError(flag, "has no meaning where rows are read by blocks", "leave it away")


def _of_classes(store: StoreReader, target: str | None) -> None:
    """Raises OptionError where the labels are numbers, or are to be."""
    labels = [label for label in store.items.label if label]
    if target == NUMBER or (target is None and found_target(labels).target == NUMBER):
        what = "rows that are read by blocks are learned as classes, and these labels are numbers"
        raise OptionError("--stream", what, "leave it away, or add --target classes")


def _options(head: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    if head not in STREAMED:
        raise OptionError(f"head {head}", "cannot read by blocks", f"one of {', '.join(STREAMED)}")
    known = head_options(head)
    for name, value in (given or {}).items():
        if name not in known:
            raise OptionError(f"head {head}", f"unknown option {name}", ", ".join(known))
        if isinstance(value, list):
            raise OptionError(
                f"head {head}", f"{name} is a list", "one value: nothing is tuned here"
            )
    return {**known, **(given or {})}


def fit_streamed(
    store: StoreReader,
    head: str = "lda",
    on: str | None = None,
    *,
    folds: int | None = None,
    group: str | None = None,
    seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    missing: str = "refuse",
    target: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    **others: Any,
) -> Bundle:
    """``fit`` of one linear head (``STREAMED``) on a store that need not fit in memory.

    ``on``: sets side by side, all of them by default. The folds serve calibration. Raises what
    ``fit`` raises, OptionError for another head and for ``others``, settings of ``fit`` that have
    no meaning here.
    """
    _of_classes(store, target)
    _refuse({**others, "heads": [h for h in others.get("heads") or () if h != head]})
    on = on or "+".join(store.sets)
    settings = _options(head, (options or {}).get(head))
    if progress is not None:
        progress(0, 1, f"{head}@{on}")
    rows = read_streamed(store, on, folds=folds, group=group, seed=seed, missing=missing)
    moments, weights = learn(rows, head, settings, full=True, folds=False)
    mine = weights[()]
    fitted = Linear(None, head != "logistic", seed)
    fitted.multiplier_, fitted.classes_ = mine.multiplier, np.arange(len(rows.classes))
    fitted.scaler_ = Standard(moments.shift, moments.unit)
    fitted.weights_, fitted.bias_ = np.ascontiguousarray(mine.W), mine.b
    names = list(parts_of(on))
    sets = {name: store.feature_set(name) for name in names}
    return Bundle(
        members=[Member(head, on, fitted)],
        fusion=None,
        classes=rows.classes,
        recipes={name: one.recipe for name, one in sets.items()},
        widths={name: one.dim for name, one in sets.items()},
        provenance={name: dict(one.provenance) for name, one in sets.items()},
        settings={
            "head": head, "heads": [head], "on": on, "fusion": None, "seed": seed,
            "options": {head: settings}, "rows": rows.account, "by_blocks": True,
            "folds": _folds(rows, group, seed),
        },
    )  # fmt: skip


def _folds(rows: Streamed, group: str | None, seed: int) -> dict[str, Any]:
    """The plan in words: a hash decides, so that it needs no list of rows."""
    kind = "by hash of the group" if group else "by hash of the file"
    out = {"kind": kind, "group": group, "n": rows.account["train"], "folds": rows.folds}
    return {**out, "repeats": 1, "seed": seed}


def evaluate_streamed(
    store: StoreReader,
    heads: Sequence[str] = STREAMED,
    on: Sequence[str] | None = None,
    *,
    folds: int | None = None,
    group: str | None = None,
    seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    missing: str = "refuse",
    test_scores: str = "chosen",
    target: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    **others: Any,
) -> Result:
    """Score linear heads out of fold on a store that need not fit in memory.

    Single probabilities are not kept, hence no paired comparisons. Rows of the splits ``valid`` and
    ``test`` are scored apart, by the refit on all others. Near duplicates are not searched; rows
    with the same bytes share a fold (see ``read_streamed``). Raises what ``evaluate`` raises,
    OptionError for a head that cannot read by blocks and for ``others``, settings of ``evaluate``
    that have no meaning here.
    """
    _of_classes(store, target)
    _refuse(others)
    if test_scores not in SHOWN:
        raise OptionError("test_scores", f"{test_scores!r} is none", f"one of {', '.join(SHOWN)}")
    settings = {head: _options(head, (options or {}).get(head)) for head in heads}
    names = list(on or ["+".join(store.sets)])
    board, rows, leaks = [], None, []  # type: ignore[var-annotated]
    for number, name in enumerate(names):
        rows = read_streamed(store, name, folds=folds, group=group, seed=seed, missing=missing)
        for place, head in enumerate(heads):
            if progress is not None:
                progress(number * len(heads) + place, len(names) * len(heads), f"{head}@{name}")
            board.append(_line(rows, head, name, settings[head], seed))
        leaks += [one for one in _leaks(store, rows) if one not in leaks]
    assert rows is not None
    board.sort(key=lambda line: (-line.accuracy.value, line.log_loss))
    board = keep_chosen(board, test_scores)
    sets = sorted({part for name in names for part in parts_of(name)})
    run = Run(
        leaderboard=tuple(board),
        folds=parse(Plan, _folds(rows, group, seed)),
        fold_table=(_fold_table(rows),),
        baseline=_guessing(rows),
        hygiene=Hygiene(leaks=parse(tuple[Leak, ...], leaks), looks=_look(store, rows, board)),
        recipes={name: recipe_of(store, name) for name in sets},
        settings=Settings(
            heads=tuple(heads), on=tuple(names), fusions=(), seed=seed, options=settings,
            classes=tuple(map(str, rows.classes)), store=str(store.path), store_uuid=store.uuid,
            missing=missing, rows=parse(Account, rows.account), by_blocks=True,
            notes=tuple(_unlearned(rows)), when=datetime.now(UTC).isoformat(timespec="seconds"),
            version=__version__,
        ),
    )  # fmt: skip
    return Result(checked(run))


def _unlearned(rows: Streamed) -> list[str]:
    there = rows.where("")
    return unlearned_notes(rows.fold[None, there], rows.codes[there], rows.classes)


def _look(store: StoreReader, rows: Streamed, board: Sequence[Line]) -> Looks | None:
    """Put down that the scores of lines on the test split are shown, where there are any."""
    scored = {line.name: json.dumps(plain(line.test)) for line in board if line.test}
    if not scored:
        return None
    which = rows.where("test")
    split = split_digest(store.items.id[which], rows.classes[rows.codes[which]])
    systems = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in scored.items()}
    return look(store.path, split, len(which), systems)


def _leaks(store: StoreReader, rows: Streamed) -> list[dict[str, Any]]:
    """Columns that tell the label alone, on the training rows whose marks come first."""
    asked = asked_sets(store, parts_of(rows.on))
    if not asked:
        return []
    marks = rows.mark[rows.where("")]
    most = np.sort(marks)[min(SAMPLE, len(marks)) - 1]
    some = [(b.X[b.mark <= most], b.codes[b.mark <= most]) for b in rows.blocks()]
    X, codes = (np.concatenate(part) for part in zip(*some))
    widths = {name: store.declared(name).dim for name in parts_of(rows.on)}
    out = []
    for name, span in columns_of(parts_of(rows.on), widths).items():
        if name in asked:
            named = store.feature_set(name).feature_names
            found = suspects_in(X[:, span], codes, named, asked[name])
            out += [{"set": name, **one} for one in found]
    return out


def _line(rows: Streamed, head: str, on: str, options: Mapping[str, Any], seed: int) -> Line:
    begin = time.perf_counter()
    held = [split for split in HELD if rows.account[split]]
    moments, weights = learn(rows, head, options, full=bool(held), folds=True)

    def out_of_fold(block: Block) -> np.ndarray:
        Z, proba = moments(block.X), np.empty((len(block.codes), len(rows.classes)))
        for fold in np.unique(block.fold).tolist():
            mine = block.fold == fold
            proba[mine] = weights[(fold,)].proba(Z[mine])
        return proba

    answers = _answers(rows, "", out_of_fold)
    there = rows.where("")
    p = chance_p(
        answers.predicted[:, None], rows.codes[there], rows.fold[there], rows.groups(""), seed
    )
    line: dict[str, Any] = {
        "head": head, "on": on, "fusion": "early" if "+" in on else None, "name": f"{head}@{on}",
        **_figures(rows, "", answers), "chance_p": float(p[0]), "how": "by blocks",
    }  # fmt: skip
    for split in held:
        refit = _answers(rows, split, lambda block: weights[()].proba(moments(block.X)))
        line[split] = _figures(rows, split, refit)
    if rows.folds == 2 and head != "logistic":
        line["notes"] = [none_left(UNCALIBRATED)]
    line["seconds"] = round(time.perf_counter() - begin, 4)
    return parse(Line, line, line["name"])


def _answers(rows: Streamed, split: str, proba: Callable[[Block], np.ndarray]) -> ByRow:
    """What is kept of each row's answer: some bytes, whatever the number of classes."""
    parts = [ByRow.of(proba(block), block.codes) for block in rows.blocks(split)]
    kinds = (np.int32, np.float32, np.float32, np.float32)
    return ByRow(*(np.concatenate(one).astype(kind) for one, kind in zip(zip(*parts), kinds)))


def _figures(rows: Streamed, split: str, answers: ByRow) -> dict[str, Any]:
    codes = rows.codes[rows.where(split)]
    return figures([answers], codes, len(rows.classes), rows.groups(split))


def _guessing(rows: Streamed) -> Line:
    """What the shares of the classes among the rows that each row is answered from would score."""
    there = rows.where("")
    table = np.array([fold.classes for fold in _fold_table(rows)])
    left = table.sum(axis=0) - table
    line: dict[str, Any] = {"head": "guessing", "on": "-", "fusion": None, "name": "guessing"}
    line |= _figures(rows, "", _guessed(left, rows.fold[there], rows.codes[there]))
    for split in HELD:
        codes = rows.codes[rows.where(split)]
        if len(codes):
            guess = _guessed(table.sum(axis=0)[None], np.zeros(len(codes), int), codes)
            line[split] = _figures(rows, split, guess)
    return parse(Line, line, "guessing")


def _guessed(counts: np.ndarray, fold: np.ndarray, codes: np.ndarray) -> ByRow:
    """Of rows (n,) answered by the shares of counts (f, k) in the line of their fold."""
    k = counts.shape[1]
    each = [ByRow.of(np.tile(line / line.sum(), (k, 1)), np.arange(k)) for line in counts]
    return ByRow(*(np.stack(one)[fold, codes] for one in zip(*each)))


def _fold_table(rows: Streamed) -> tuple[Fold, ...]:
    k, there = len(rows.classes), rows.where("")
    table = np.zeros((rows.folds, k), dtype=int)
    np.add.at(table, (rows.fold[there], rows.codes[there]), 1)
    return tuple(Fold(n=int(line.sum()), classes=tuple(line.tolist())) for line in table)
