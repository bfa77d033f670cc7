"""The report put together, and written as one file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from headstock.heads.files import write_text
from headstock.heads.report.contest import Contest
from headstock.heads.report.findings import fold_lines
from headstock.heads.report.page import board, chart, closer, gallery, scatter
from headstock.heads.report.page.gallery import Cards
from headstock.heads.report.page.markup import Safe, h, joined, json_block
from headstock.heads.report.page.media import Shelf
from headstock.heads.report.page.regression import (
    SavedNumbers,
    facts_of,
    number_sections,
    read_saved_numbers,
)
from headstock.heads.report.page.settings import provenance
from headstock.heads.report.page.source import Source, sources_of
from headstock.heads.report.page.weights import weights
from headstock.heads.report.saved import Saved, System, read_saved
from headstock.store.disk.outputs import refuse_other
from headstock.store.errors import OptionError, one_line
from headstock.store.progress import Report, unheard

__all__ = ["Written", "write_report"]


@dataclass(frozen=True)
class Written:
    """What was written: the file, its size, how many pictures and sounds are in it, how many were
    left out at the limit or could not be read, and what else there is to say."""

    path: Path
    bytes: int
    pictures: int
    sounds: int
    left_out: int
    unreadable: int
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """One line, then one for each note."""
        extra = [
            f"{self.left_out} left out at the limit" if self.left_out else "",
            f"{self.unreadable} unreadable" if self.unreadable else "",
        ]
        size = f"{self.path}: {self.bytes / 1e6:.1f} MB"
        parts = [size, f"{self.pictures} pictures", f"{self.sounds} sounds", *filter(None, extra)]
        return "\n".join([", ".join(parts), *self.notes])

    def _repr_html_(self) -> str:
        """What a notebook shows: the page, in a frame of its own."""
        from headstock.heads.report.notebook import page_html

        return page_html(self.path, self.text())


def write_report(
    run_dirs: Sequence[str | Path],
    output: str | Path,
    *,
    store: str | Path | None = None,
    data: str | Path | None = None,
    detail: int = 6,
    gallery_size: int = 12,
    media_mb: float = 12.0,
    map_rows: int = 3000,
    projection: str = "pca",
    progress: Report = unheard,
) -> Written:
    """Write one HTML file about one or several runs; it needs no network and no other file.

    store: for runs whose recorded store moved. data: the folder that the store's paths are
    relative to, when the files moved; nothing outside it is read. detail: systems of each run that
    are shown closely. gallery_size: cards in each gallery. media_mb: what pictures and sounds may
    weigh together; the page says what was left out. map_rows: rows on a map of the embeddings.
    projection: ``pca`` or ``umap`` (needs umap-learn).

    Raises OptionError (no run folder, matplotlib missing, a setting without meaning), HeadError
    (a run that cannot be read), StorageError, and what opening ``store`` raises.
    """
    chart.require()
    if projection not in scatter.PROJECTIONS:
        known = ", ".join(scatter.PROJECTIONS)
        raise OptionError("projection", f"{projection!r} is none", f"one of {known}")
    numbers = read_saved_numbers(run_dirs)
    if numbers is not None:
        return _written_numbers(numbers, output)
    runs = read_saved(run_dirs)
    shelf = Shelf(limit=int(media_mb * 1e6))
    with sources_of(runs, store, data) as (sources, notes):
        contest = Contest.of(runs, _groups(runs, sources))
        sections = [
            ("leaderboard", "Leaderboard", board.leaderboard(contest)),
            ("differences", "Which of these differ", board.differences(contest)),
            ("overlap", "Which errors they share", board.overlap(contest)),
        ]
        for number, run in enumerate(runs):
            progress(number, 2 * len(runs), f"{run.name}: systems and galleries")
            cards = Cards(run, sources.get(run.name), shelf)
            sections += _run_sections(run, cards, f"r{number}", len(runs) > 1, detail, gallery_size)
        for number, run in enumerate(runs):  # last, so that galleries come first in the budget
            progress(len(runs) + number, 2 * len(runs), f"{run.name}: map")
            cards, key = Cards(run, sources.get(run.name), shelf), f"r{number}"
            of = f" ({run.name})" if len(runs) > 1 else ""
            sections += [
                (key + "-map", "Map" + of, scatter.maps(cards, map_rows, projection, key + "map")),
                (key + "-settings", "Settings and times" + of, provenance(run.run, cards.source)),
            ]
    page = _page([run.name for run in runs], _facts(runs), sections, shelf, notes)
    refuse_other(output, "page")
    write_text(output, page)
    return Written(
        Path(output), len(page.encode()), len(shelf.pictures), len(shelf.sounds),
        len(shelf.left_out), len(shelf.broken), notes,
    )  # fmt: skip


def _groups(runs: list[Saved], sources: dict[str, Source]) -> dict[str, str]:
    """Each id's group, where folds kept the groups of a column together and the store is here."""
    for run in runs:
        column, source = run.run.folds.group, sources.get(run.name)
        if source is not None and column in ("group", *source.items.extra):
            return dict(zip(source.items.id.tolist(), source.items.column(column).tolist()))
    return {}


def _run_sections(
    run: Saved, cards: Cards, name: str, several: bool, detail: int, size: int
) -> list[tuple[str, str, Safe]]:
    of = f" ({run.name})" if several else ""
    chosen = run.detailed(detail)
    first = " of the first repeat" if run.run.folds.repeats > 1 else ""
    gates = [(system, system.line.gate) for system in run.systems]
    curves = joined(
        closer.coverage_chart(chosen, f"{name}cov") if chosen else None,
        *(
            closer.gate_chart(s, gate, f"{name}gate{i}")
            for i, (s, gate) in enumerate(gates)
            if gate
        ),
        closer.learning_chart(run.run, f"{name}learn"),
    )
    close = joined(
        h(
            "p",
            f"The best system of each feature set and fusion, {len(chosen)} of {len(run.systems)}, "
            f"on held-out rows{first}.",
            class_="says",
        ),
        *(_closer(s, cards, f"{name}s{i}", size, opened=i == 0) for i, s in enumerate(chosen)),
    )
    weighed = weights(run.run)
    return [
        (f"{name}-curves", f"Curves{of}", h("div", curves, class_="figures")),
        (f"{name}-systems", f"Systems closely{of}", close),
        *([(f"{name}-weights", f"What weighs{of}", weighed)] if weighed is not None else []),
        (f"{name}-duplicates", f"Duplicates{of}", gallery.duplicates(cards, size)),
        (f"{name}-failed", f"Failed rows{of}", gallery.failures(cards, 4 * size)),
    ]


def _closer(system: System, cards: Cards, name: str, size: int, *, opened: bool) -> Safe:
    accuracy = board.percent(system.line.accuracy.value)
    decides = system.saved.run.settings.decides
    if decides != "accuracy":
        figure = board.number(system.line.figure(decides), 4)
        accuracy = f"{decides} {figure}, accuracy {accuracy}"
    return h(
        "details",
        h("summary", h("h3", f"{system.name} "), f"{accuracy}, {system.line.errors:g} errors"),
        h(
            "div",
            h("div", closer.confusion_table(system), closer.classes_table(system)),
            closer.reliability_chart(system, f"{name}rel"),
            class_="figures",
        ),
        gallery.of_system(system, cards, size),
        class_="system",
        open=opened,
    )  # fmt: skip


def _written_numbers(runs: list[SavedNumbers], output: str | Path) -> Written:
    """The page of runs of numbers."""
    sections, shelf = number_sections(runs), Shelf(limit=0)
    page = _page([run.name for run in runs], facts_of(runs), sections, shelf, [])
    refuse_other(output, "page")
    write_text(output, page)
    return Written(Path(output), len(page.encode()), 0, 0, 0, 0)


def _page(
    names: list[str], facts: list[Safe], sections: list[tuple[str, str, Safe]], shelf: Shelf,
    notes: list[str],
) -> Safe:  # fmt: skip
    here = files("headstock.heads.report.page")
    style = here.joinpath("page.css").read_text("utf-8")
    script = here.joinpath("page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Only this script runs and nothing is ever fetched, whatever the data holds.
    policy = (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    title = "headstock: " + ", ".join(names)
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", http_equiv="Content-Security-Policy", content=Safe(policy.replace('"', ""))),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("title", title),
        h("style", Safe(style)),
    )
    switch = h("button", "Light or dark", type="button", id="theme")
    seen = [[one_line(id, 400), one_line(label, 400)] for id, label in shelf.items]
    media = {"items": seen, "pictures": shelf.pictures, "sounds": shelf.sounds}
    links = [h("li", h("a", name, href=f"#{key}")) for key, name, _ in sections]
    body = h(
        "body",
        h("a", "To the results", href="#leaderboard", class_="skip"),
        h("header", h("h1", title), *facts, switch),
        h("nav", h("ul", *links), _finder(), aria_label="Parts of the report"),
        h("main", *(h("section", h("h2", n), inner, id=key) for key, n, inner in sections)),
        h("footer", *_limits(shelf, notes)),
        h("noscript", "Without scripts the tables are here, but no pictures, sounds and sorting."),
        h("div", id="hover", hidden=True, aria_hidden="true"),
        json_block("data", media),
        Safe(f"<script>{script}</script>"),
    )  # fmt: skip
    return Safe(f"<!DOCTYPE html>\n{h('html', head, body, lang='en')}\n")


def _finder() -> Safe:
    box = h("input", type="search", id="find", placeholder="id or class")
    return h(
        "p", h("label", "Filter pictures and sounds ", box), h("output", id="found"), class_="tools"
    )


def _facts(runs: list[Saved]) -> list[Safe]:
    out = []
    for run in runs:
        plan = run.run.folds
        group = f" ({plan.group})" if plan.group else ""
        lead = f"{run.name}: " if len(runs) > 1 else ""
        facts = [
            f"{lead}{len(run.ids):,} rows, {len(run.classes)} classes, {plan.folds} folds, "
            f"{plan.kind}{group}, seed {plan.seed}, {len(run.run.leaderboard)} systems",
            *fold_lines(run.run),
        ]
        out.append(h("p", "; ".join(facts)))
    return out


def _limits(shelf: Shelf, notes: list[str]) -> list[Safe]:
    kept = (
        f"{len(shelf.pictures):,} pictures and {len(shelf.sounds):,} sounds (their first 4 s) "
        f"weigh {shelf.used / 1e6:.1f} MB of the {shelf.limit / 1e6:g} MB allowed"
    )
    left = f"; {len(shelf.left_out):,} were left out" if shelf.left_out else ""
    bad = f"; {len(shelf.broken):,} could not be read" if shelf.broken else ""
    return [h("p", f"{kept}{left}{bad}."), *(h("p", note) for note in notes)]
