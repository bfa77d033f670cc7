"""A feature set as it was declared: what its vectors are, before any of them exists."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from headstock.store.errors import OptionError
from headstock.store.recipe import Recipe

__all__ = ["ABSENT", "FAILED", "OK", "Declared"]

ABSENT, OK, FAILED = 0, 1, 2  # the status of a row in a set
LONGEST = 1 << 15  # characters of a declaration that a shard carries whole
STORED = {"float32": "<f4", "float16": "<f2"}


@dataclass(frozen=True)
class Declared:
    """Name, recipe, d and stored type of a set. ``epoch`` is the number of the patch that declared
    it: shards of an earlier epoch were made for a column that has been replaced since."""

    name: str
    recipe: Recipe
    dim: int
    dtype: str = "float32"
    feature_names: tuple[str, ...] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    epoch: int = 0

    @classmethod
    def of(
        cls,
        name: str,
        recipe: Recipe,
        dim: int,
        dtype: str = "float32",
        feature_names: Sequence[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Declared:
        """Checked. Raises OptionError for a name, size or type that no store takes."""
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name):
            raise OptionError(
                f"set {name!r}", "is no name for a feature set", "use letters, digits, . _ -"
            )
        if dtype not in STORED:
            raise OptionError(f"set {name}", f"cannot store {dtype}", "use float32 or float16")
        if not 0 < dim <= 1 << 24:
            raise OptionError(f"set {name}", f"cannot store vectors of length {dim}")
        names = None if feature_names is None else tuple(map(str, feature_names))
        if names is not None and len(names) != dim:
            raise OptionError(f"set {name}", f"{len(names)} feature names for {dim} features")
        return cls(name, recipe, int(dim), dtype, names, dict(provenance or {}))

    @property
    def stored(self) -> np.dtype:
        return np.dtype(STORED[self.dtype])

    def differences(self, other: Declared) -> list[str]:
        """What makes a column of ``other`` unlike one of this; empty when they may share rows."""
        lines = self.recipe.difference(other.recipe)
        for key in ("dim", "dtype"):
            mine, theirs = getattr(self, key), getattr(other, key)
            if mine != theirs:
                lines.append(f"{key}: {mine} -> {theirs}")
        return lines

    def to_meta(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "recipe": self.recipe.to_json(),
            "dim": self.dim,
            "dtype": self.dtype,
            "feature_names": None if self.feature_names is None else list(self.feature_names),
            "provenance": dict(self.provenance),
            "epoch": self.epoch,
        }

    @cached_property
    def carried(self) -> dict[str, Any]:
        """``to_meta`` for every shard to carry, so that it can be used when its declaration is
        lost: without what is long and determines no vector."""
        meta = self.to_meta()
        if len(json.dumps(meta)) > LONGEST:
            meta |= {"provenance": {}, "feature_names": None}
        return meta

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any], epoch: int | None = None) -> Declared:
        """Raises ValueError, KeyError, TypeError or OptionError when ``meta`` is not one."""
        made = cls.of(
            meta["name"], Recipe.from_json(meta["recipe"]), meta["dim"], meta["dtype"],
            meta["feature_names"], meta["provenance"],
        )  # fmt: skip
        return replace(made, epoch=int(meta["epoch"]) if epoch is None else epoch)
