"""Where the rows lie: each feature set brought down to two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.heads.report.page import chart
from headstock.heads.report.page.board import percent
from headstock.heads.report.page.gallery import Cards
from headstock.heads.report.page.markup import Safe, h
from headstock.store.errors import HeadstockError, OptionError

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["PROJECTIONS", "maps"]

PROJECTIONS = ("pca", "umap")
MARKERS = "os^D"
MOST_KEYS = 40


def maps(cards: Cards, most: int, projection: str, name: str) -> Safe:
    """A map for each feature set that the run used, of at most ``most`` rows, evenly taken."""
    source = cards.source
    if source is None:
        return h("p", "Not drawn: the store is not here.")
    store = source.store
    account = cards.saved.run.settings.rows
    wanted = [s for s in (account.sets if account else store.sets) if s in store.sets]
    made = []
    for number, set_name in enumerate(wanted):
        try:
            made.append(_map(cards, store, set_name, most, projection, f"{name}-{number}"))
        except HeadstockError as error:  # a damaged column costs its map only
            made.append(h("p", f"{set_name}: not drawn: {error}"))
    return h("div", *made, class_="figures")


def _map(
    cards: Cards, store: StoreReader, set_name: str, most: int, projection: str, name: str
) -> Safe:
    from headstock.store import OK

    assert cards.source is not None
    run, rows = cards.saved, cards.source.rows(cards.saved.ids)
    status = store.feature_set(set_name).status
    there = np.flatnonzero((rows >= 0) & (status[rows] == OK))
    if len(there) < 3:
        return h("p", f"{set_name}: too few rows for a map.")
    which = there[np.unique(np.linspace(0, len(there) - 1, min(most, len(there))).astype(int))]
    which = which[np.argsort(run.codes[which], kind="stable")]
    flat, axes_say = _project(store.feature_set(set_name).x(rows[which]), projection)
    codes = run.codes[which]
    classes = np.unique(codes)

    def draw(axes: Any) -> None:
        for c in classes:
            at = codes == c
            axes.scatter(flat[at, 0], flat[at, 1], s=18, color=chart.colour(c), alpha=0.75,
                         linewidths=0, marker=MARKERS[(c // chart.COLOURS) % len(MARKERS)],
                         gid=f"class{c}")  # fmt: skip
        axes.set_axis_off()

    numbers = []
    for row in which:
        number = cards.number(str(run.ids[row]), str(run.labels[row]))
        cards.shelf.picture(cards.source, number)
        numbers.append(number)
    keys = [
        h("li", h("button", h("i", style=f"--c:var(--c{c % chart.COLOURS})",
          class_=f"dot{(c // chart.COLOURS) % len(MARKERS)}"), run.classes[c], type="button",
          aria_pressed="true", data_class=int(c)))
        for c in classes[:MOST_KEYS]
    ]  # fmt: skip
    count = (
        f"{len(which):,} of {len(there):,} rows"
        if len(which) < len(there)
        else f"{len(which):,} rows"
    )
    unnamed = len(classes) - len(keys)
    more = f" {unnamed} more classes are on the map, without a button." if unnamed else ""
    says = f"{count}. {axes_say}{more}"
    picture = chart.svg(draw, name, (6.4, 4.6))
    return h(
        "figure",
        h("figcaption", f"Map of {set_name}"),
        h("ul", *keys, class_="legend keys", aria_label="Classes on the map, press to hide"),
        h(
            "div", picture, class_="chart map", tabindex="0", role="application",
            aria_label=f"Map of {set_name}: {says} Arrow keys go from row to row.",
            data_points=_listed(numbers), data_codes=_listed(codes.tolist()),
        ),
        h("p", "Point at a dot, or go through them with the arrow keys.", class_="says told",
          aria_live="polite"),
        h("p", says, class_="says"),
    )  # fmt: skip


def _listed(numbers: list[int]) -> Safe:
    """Numbers for the script; ``Safe`` because an attribute's text would be cut to length."""
    return Safe(",".join(map(str, numbers)))


def _project(x: np.ndarray, projection: str) -> tuple[np.ndarray, str]:
    """(m, 2) positions of x (m, d), and what the axes are in words."""
    if projection not in PROJECTIONS:
        raise OptionError(
            "projection", f"{projection!r} is none", f"one of {', '.join(PROJECTIONS)}"
        )
    if projection == "umap":
        try:
            from umap import UMAP
        except ImportError as error:
            raise OptionError(
                "projection", "umap needs umap-learn", "pip install 'headstock[umap]', or use pca"
            ) from error
        flat = UMAP(random_state=0, n_jobs=1).fit_transform(x)
        return np.asarray(flat), "Neighbours by UMAP: near is alike, far says little."
    from sklearn.decomposition import PCA

    scale = x.std(axis=0)
    scale[scale == 0] = 1
    pca = PCA(2, svd_solver="randomized" if min(x.shape) > 50 else "full", random_state=0)
    flat = pca.fit_transform((x - x.mean(axis=0)) / scale)
    share = [percent(v) for v in pca.explained_variance_ratio_]
    told = f"The two principal components of the standardised vectors hold {share[0]} and "
    if flat.shape[1] < 2:
        flat = np.column_stack([flat, np.zeros(len(flat))])
    return flat, told + f"{share[-1]} of their variance."
