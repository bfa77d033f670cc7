"""Which fold plan an evaluation or a fit of a store holds out by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headstock.heads.rows.adapted import adapted_plan
from headstock.heads.rows.folds import USUAL_FOLDS, FoldPlan, make_folds
from headstock.heads.rows.labelled import Rows
from headstock.heads.rows.strata import strata_of
from headstock.heads.rows.times import time_plan
from headstock.store.errors import HeadError, OptionError, near, one_line

if TYPE_CHECKING:
    from headstock.store.reader import StoreReader

__all__ = ["plan_for"]


def plan_for(
    store: StoreReader,
    rows: Rows,
    folds: int | str | FoldPlan | None,
    *,
    group: str | None,
    repeats: int,
    seed: int,
    spread: bool = False,
) -> FoldPlan:
    """The fold plan for ``rows``: the one their networks were adapted on, a saved one found again
    by ids, or a new one. Raises HeadError for a saved one that parts a value of ``group``."""
    adapted = adapted_plan(rows, folds, repeats)
    if adapted is not None:
        return adapted
    folds = USUAL_FOLDS if folds is None else folds
    if isinstance(folds, FoldPlan):
        plan = folds.align(rows.ids)
        if group is not None:
            values = dict(zip(store.items.id, store.items.column(group)))
            parted = plan.parted([values[i] for i in rows.ids])
            if parted:
                raise HeadError(
                    "fold plan",
                    f"it parts {len(parted)} values of {group} (first: {one_line(parted[0], 40)})",
                    f"make one with --group {group}, or leave --group away",
                )
        return plan
    given = None
    if isinstance(folds, str) and folds.startswith("time:"):
        column, _, how = folds.removeprefix("time:").partition(":")
        if repeats > 1:
            fix = "leave --repeats away"
            raise OptionError("repeats", "time passes once: there is one plan by time", fix)
        values = _column(store, column)
        return time_plan(rows.ids, [values[i] for i in rows.ids], column, how or "expanding")
    if isinstance(folds, str) and folds.startswith("given:"):
        column = folds.partition(":")[2]
        values = _column(store, column)
        given, folds, group = [values[i] for i in rows.ids], "given", column
    if folds == "group-out" and group is None:
        raise OptionError("folds", "group-out needs a column", "name it as the group")
    if rows.groups is not None and group is None:
        group = "duplicates"
    return make_folds(
        strata_of(rows, folds if isinstance(folds, int) and folds > 1 else USUAL_FOLDS),
        folds,
        ids=rows.ids,
        groups=rows.groups,
        given=given,
        strata=None if rows.present is None else rows.patterns(),
        repeats=repeats,
        seed=seed,
        group_name=group,
        spread=spread or rows.numbers is not None,
    )


def _column(store: StoreReader, column: str) -> dict[str, str]:
    """{id: value} of a text column. Raises OptionError for one that is not there."""
    try:
        return dict(zip(store.items.id, store.items.column(column)))
    except KeyError as error:
        raise OptionError(
            "folds",
            f"there is no column {column}",
            f"{near(column, error.args[0].split(', '))}one of {error.args[0]}",
        ) from error
