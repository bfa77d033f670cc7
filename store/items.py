"""The rows: what a manifest lists and a store keeps, as parallel columns of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Items", "text_column"]


def text_column(values: Sequence[str]) -> np.ndarray:
    """``values`` as an (n,) object array of ``str``."""
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


@dataclass(frozen=True)
class Items:
    """n rows as columns, every column an (n,) object array of ``str``; ``""`` means absent.

    ``id`` is unique and never empty. ``paths`` maps a modality (``image``, ``audio``) to file paths
    as the manifest writes them, relative to ``root`` or absolute. ``label`` is text always: ``007``
    and ``1e5`` are names, not numbers. ``extra`` keeps the manifest's other short text columns, so
    that any of them can be a group later (``--group speaker``).
    """

    id: np.ndarray
    paths: Mapping[str, np.ndarray]
    label: np.ndarray
    split: np.ndarray
    group: np.ndarray
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    root: str = ""

    @classmethod
    def of(
        cls,
        id: Sequence[str],
        *,
        paths: Mapping[str, Sequence[str]] | None = None,
        label: Sequence[str] | None = None,
        split: Sequence[str] | None = None,
        group: Sequence[str] | None = None,
        extra: Mapping[str, Sequence[str]] | None = None,
        root: str = "",
    ) -> Items:
        """Build from plain sequences; an omitted column is all absent."""
        blank = [""] * len(id)
        return cls(
            id=text_column(id),
            paths={k: text_column(v) for k, v in (paths or {}).items()},
            label=text_column(label if label is not None else blank),
            split=text_column(split if split is not None else blank),
            group=text_column(group if group is not None else blank),
            extra={k: text_column(v) for k, v in (extra or {}).items()},
            root=root,
        )

    def __len__(self) -> int:
        return len(self.id)

    def take(self, rows: np.ndarray) -> Items:
        """The items at ``rows``, an integer or boolean index."""
        return Items(
            id=self.id[rows],
            paths={k: v[rows] for k, v in self.paths.items()},
            label=self.label[rows],
            split=self.split[rows],
            group=self.group[rows],
            extra={k: v[rows] for k, v in self.extra.items()},
            root=self.root,
        )

    def column(self, name: str) -> np.ndarray:
        """A text column by name: ``label``, ``split``, ``group`` or one of ``extra``.

        Raises KeyError with the names that exist.
        """
        if name in ("id", "label", "split", "group"):
            return getattr(self, name)
        if name in self.extra:
            return self.extra[name]
        raise KeyError(", ".join(["label", "split", "group", *self.extra]))
