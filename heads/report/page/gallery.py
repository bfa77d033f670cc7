"""Cards with pictures and sounds: doubtful rows, duplicates, failures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headstock.heads.report.page.board import percent
from headstock.heads.report.page.markup import Safe, h, joined
from headstock.heads.report.page.media import Shelf
from headstock.heads.report.page.source import Source
from headstock.heads.report.saved import Saved, System
from headstock.heads.run.rows import Alike, Doubt

__all__ = ["Cards", "duplicates", "failures", "of_system"]


@dataclass
class Cards:
    """Makes cards of one run's rows; ``source`` is None when its store is not there."""

    saved: Saved
    source: Source | None
    shelf: Shelf

    def card(self, id: str, label: str, *lines: object, said: str = "") -> Safe:
        """A row: picture, sound, id, and ``lines`` about it."""
        number = self.number(id, label)
        return h(
            "li",
            self._picture(number, id, label),
            self._sound(number, id),
            h("p", h("b", id, class_="id"), *(h("span", line) for line in lines if line)),
            class_="card",
            data_find=f"{id} {label} {said}".lower(),
        )

    def number(self, id: str, label: str) -> int:
        """The number of a row on the page; runs on one store share it."""
        owner = self.saved.name if self.source is None else str(self.source.path)
        return self.shelf.item(owner, id, label)

    def _picture(self, number: int, id: str, label: str) -> Safe | None:
        why = "" if self.source is None else self.shelf.picture(self.source, number)
        if why is None:
            told = f"Picture of {id}" + (f", labelled {label}" if label else "")
            return h("img", alt=told, data_picture=number, width=128, height=128)
        return h("span", f"Picture {why}", class_="lacking") if why else None

    def _sound(self, number: int, id: str) -> Safe | None:
        why = "" if self.source is None else self.shelf.sound(self.source, number)
        if why is None:
            seconds = self.shelf.sounds[number][1]
            return h(
                "button", h("span", "▶", aria_hidden="true", class_="sign"),
                h("span", f"{seconds:.1f} s", class_="length"), type="button", class_="play",
                data_sound=number, aria_pressed="false", aria_label=f"Play the sound of {id}",
            )  # fmt: skip
        return h("span", f"Sound {why}", class_="lacking") if why else None


def shelf_of_cards(title: str, about: str, cards: Sequence[Safe], of: int, tag: str = "h4") -> Safe:
    """A titled gallery; ``of`` is how many rows there are, shown or not."""
    if not cards:
        return joined(h(tag, title), h("p", "None.", class_="says"))
    count = f" ({len(cards)} of {of:,})" if of > len(cards) else f" ({of:,})"
    return joined(
        h(tag, title, count), h("p", about, class_="says"), h("ul", *cards, class_="cards")
    )


def of_system(system: System, cards: Cards, most: int) -> Safe:
    """The rows a system is least sure of, those it has confidently wrong, and doubtful labels."""
    run, proba = system.saved, system.proba
    assert proba is not None
    said, top = system.predicted, proba.max(axis=1)
    wrong = np.flatnonzero(~system.right)
    unsure = np.argsort(top, kind="stable")
    sure = wrong[np.argsort(-top[wrong], kind="stable")]
    first = system.name == run.run.leaderboard[0].name  # whose doubts the run recorded

    def card(row: int, *more: object) -> Safe:
        label, guess = str(run.labels[row]), str(run.classes[said[row]])
        verdict = f"{label}, answered right" if label == guess else f"{label}, taken for {guess}"
        return cards.card(
            str(run.ids[row]), label, verdict, f"confidence {percent(top[row])}", *more, said=guess
        )

    return joined(
        shelf_of_cards(
            "Confidently wrong", "Wrong rows, the most confident first.",
            [card(r) for r in sure[:most]], len(sure),
        ),
        shelf_of_cards(
            "Least confident", "Rows with the lowest top probability, right or wrong.",
            [card(r) for r in unsure[:most]], len(unsure),
        ),
        _doubted(run.run.hygiene.label_doubts, cards, most) if first else None,
    )  # fmt: skip


def _doubted(doubts: Sequence[Doubt], cards: Cards, most: int) -> Safe:
    made = [
        cards.card(
            one.id, one.label, f"labelled {one.label}", h("em", f"suggested: {one.likely}")
        )
        for one in doubts[:most]
    ]  # fmt: skip
    about = (
        "Held-out probability believes another class than the label (confident learning), the most "
        "doubtful first; a hint to look, not a verdict."
    )
    return shelf_of_cards("Likely mislabelled", about, made, len(doubts))


def duplicates(cards: Cards, most: int) -> Safe:
    """Groups of rows with the same bytes in the store, and the near copies the run recorded."""
    run, source, hygiene = cards.saved, cards.source, cards.saved.run.hygiene
    exact = _same_bytes(run, source) if source else _clusters(hygiene.exact, "the same bytes")
    groups = [
        *exact,
        *_clusters(hygiene.copies, "copies of one file"),
        *_clusters(hygiene.near, "alike"),
    ]
    ids = [*run.ids.tolist(), *run.test_ids.tolist()]
    label = dict(zip(ids, [*run.labels.tolist(), *run.test_labels.tolist()]))
    fold = dict.fromkeys(run.test_ids.tolist(), "test split")
    if run.folds is not None:
        fold |= {i: f"fold {f}" for i, f in zip(run.ids.tolist(), run.folds.tolist())}

    def judged(ids: list[str]) -> tuple[bool, bool]:
        labels, folds = {label.get(i) for i in ids} - {None}, {fold.get(i) for i in ids} - {None}
        return len(labels) > 1, len(folds) > 1

    groups.sort(key=lambda group: judged(group[2]), reverse=True)
    made = []
    for set_name, kind, ids in groups[:most]:
        differ, parted = judged(ids)
        warning = [
            h("strong", "different labels") if differ else None,
            h("strong", "in several folds") if parted else None,
        ]
        shown = [
            cards.card(i, str(label.get(i, "")), label.get(i), fold.get(i, "")) for i in ids[:6]
        ]
        more = h("p", f"and {len(ids) - 6} more") if len(ids) > 6 else None
        words = h(
            "h3", f"{len(ids)} rows, {kind} in {set_name} ", *(joined(w, " ") for w in warning if w)
        )
        made.append(h("li", words, h("ul", *shown, class_="cards small"), more, class_="group"))
    if not made:
        known = source is not None or hygiene.exact is not None
        return h("p", "None found." if known else "Not looked for: the store is not here.")
    count = (
        f"{len(made)} of {len(groups)} groups"
        if len(groups) > len(made)
        else f"{len(groups)} groups"
    )
    leaks = sum(judged(g[2])[1] for g in groups)
    return joined(
        h("p", f"{count}; {leaks} of all {len(groups)} lie in several folds or splits, where they "
          "lend the score what it did not earn. Different labels first; of near copies those that "
          "the run recorded.", class_="says"),
        h("ul", *made, class_="groups"),
    )  # fmt: skip


def _clusters(
    by_set: Mapping[str, Alike] | None, words: str
) -> Iterable[tuple[str, str, list[str]]]:
    """The first clusters of each set that the run recorded, each once."""
    for name, alike in (by_set or {}).items():
        yield from ((name, words, list(ids)) for ids in dict.fromkeys(alike.first))


def _same_bytes(run: Saved, source: Source) -> Iterable[tuple[str, str, list[str]]]:
    from headstock.store import OK

    store = source.store
    rows = [*run.ids.tolist(), *run.test_ids.tolist()]
    for name in store.sets:
        progress = store.progress(name, rows)
        found: dict[bytes, list[str]] = {}
        for i in np.flatnonzero(progress.status == OK):
            found.setdefault(progress.digest[i].tobytes(), []).append(rows[i])
        yield from ((name, "the same bytes", ids) for ids in found.values() if len(ids) > 1)


def failures(cards: Cards, most: int) -> Safe:
    """Rows whose vector could not be made, with the reason."""
    if cards.source is None:
        return h("p", "Not known: the store is not here.")
    store = cards.source.store
    errors = store.errors()
    if not errors:
        return h("p", "None: every row that was tried has its vector.")
    made = [
        cards.card(e.id, cards.source.label(e.id), h("strong", f"{e.set}: {e.code}"), e.line)
        for e in errors[:most]
    ]
    return shelf_of_cards("No vector, so in no score", "", made, len(errors), tag="h3")
