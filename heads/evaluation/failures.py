"""A head that cannot answer costs its own lines and no other's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headstock.heads.evaluation.systems import System
from headstock.heads.outoffold.answer import Answer, head_error
from headstock.heads.run.scores import Failed
from headstock.store.errors import HeadError, HeadstockError, one_line

__all__ = ["attempt", "failed_lines", "reason"]


def reason(head: str, error: Exception) -> HeadError:
    """Why the head cannot answer. Raises what is no fault of a head: a wrong option, a damaged
    store, a disk."""
    if isinstance(error, HeadError):
        return error
    if isinstance(error, HeadstockError | OSError):
        raise error
    return head_error(head, error)


def attempt(
    answer: Callable[[Sequence[str]], dict[str, Answer]], head: str, on: Sequence[str]
) -> tuple[dict[str, Answer], dict[str, HeadError]]:
    """What ``answer`` gives for the sets ``on``, and for those where the head cannot, why. When
    several sets at once fail, each is tried alone. Raises as ``reason``."""
    try:
        return answer(on), {}
    except Exception as error:  # noqa: BLE001  a head may be anybody's
        problem = reason(head, error)
    if len(on) <= 1:
        return {}, dict.fromkeys(on, problem)
    found: dict[str, Answer] = {}
    failed: dict[str, HeadError] = {}
    for one in on:
        some, not_this = attempt(answer, head, [one])
        found |= some
        failed |= not_this
    return found, failed


def failed_lines(failed: Sequence[tuple[System, HeadError]]) -> tuple[Failed, ...]:
    """The lines of systems without an answer."""
    return tuple(
        Failed(
            head=system.head, on=system.on, fusion=system.fusion, name=system.name,
            reason=one_line(error, 200),
        )
        for system, error in failed
    )  # fmt: skip
