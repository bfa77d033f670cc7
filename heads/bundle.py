"""A fitted model in one file that runs nothing when it is read.

``model.headstock`` is a safetensors file: the arrays of every fitted head and fusion, and one JSON
text in its metadata for everything else. There is no pickle in it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from headstock.heads.engine import full_proba
from headstock.heads.fusion import KINDS
from headstock.heads.head import Head
from headstock.heads.predictions import Predictions
from headstock.heads.rows import parts_of
from headstock.heads.tables import write_bytes
from headstock.store.errors import (
    BundleError,
    HeadstockError,
    IncompleteSet,
    RecipeMismatch,
    StorageError,
    VersionError,
)
from headstock.store.recipe import Recipe

__all__ = ["Bundle", "Member", "Pattern"]

FORMAT, VERSION = "headstock model", 2

HEAD_KINDS: Mapping[str, str] = {
    "linear": "headstock.heads.linear:Linear",
    "kernel-svm": "headstock.heads.svm:KernelSVM",
    "neighbours": "headstock.heads.neighbours:Neighbours",
    "lightgbm": "headstock.heads.boosted:LightGBM",
    "xgboost": "headstock.heads.boosted:XGBoost",
    "trees": "headstock.heads.trees:Trees",
    "network": "headstock.heads.neural:Network",
}
"""What a file may ask to be built: these classes and nothing else."""

BLOCK = 1 << 16
"""Rows predicted at a time: a store may hold more than memory does."""


@dataclass
class Member:
    """One fitted head and the sets it reads."""

    head: str
    on: str
    fitted: Head


@dataclass
class Pattern:
    """How rows with certain sets are answered: which members, by number, and what joins them."""

    members: list[int]
    fusion: Any = None


@dataclass
class Bundle:
    """Fitted heads, the fusion that joins them (None for a single head), class names (k,), and what
    the vectors they read must be: recipe and width of each set.

    patterns: for a model of rows that may lack a set, what answers rows that have these sets and no
    more: {"image+audio": ..., "image": ...}, most sets first; ``fusion`` is None then.
    """

    members: list[Member]
    fusion: Any
    classes: np.ndarray
    recipes: dict[str, Recipe]
    widths: dict[str, int]
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    patterns: dict[str, Pattern] = field(default_factory=dict)

    def pattern(self, sets: Collection[str]) -> str | None:
        """What answers rows that have ``sets``: the pattern with most of them, or None."""
        whole = list(self.patterns) or ["+".join(self.widths)]
        return next((name for name in whole if set(parts_of(name)) <= set(sets)), None)

    def predict_arrays(self, X: Mapping[str, np.ndarray]) -> np.ndarray:
        """(m, k) probabilities from {set: (m, d) float32}; a model for rows that may lack a set
        takes those that are there. Raises BundleError for a wrong width."""
        name = self.pattern(X)
        for set_name in self.widths if name is None else parts_of(name):
            width = self.widths[set_name]
            if set_name not in X or X[set_name].ndim != 2 or X[set_name].shape[1] != width:
                got = X[set_name].shape if set_name in X else "nothing"
                raise BundleError(f"set {set_name}", f"the model reads {width} columns, got {got}")
        assert name is not None
        how = self.patterns.get(name) or Pattern(list(range(len(self.members))), self.fusion)
        said = []
        for member in (self.members[number] for number in how.members):
            matrix = _beside(X, parts_of(member.on))
            said.append(full_proba(member.fitted, member.head, matrix, len(self.classes)))
        if how.fusion is None:
            return said[0]
        if getattr(how.fusion, "wants_features", False):
            return how.fusion.predict(np.stack(said, axis=1), _beside(X, how.fusion.reads))
        return how.fusion.predict(np.stack(said, axis=1))

    def predict(self, store: Any, rows: np.ndarray | None = None) -> Predictions:
        """Predict a store's rows (row numbers or a mask; all by default).

        Raises MissingSet, RecipeMismatch with the differing fields, and IncompleteSet when a wanted
        row lacks a vector; of a model for rows that may lack a set, when it has none.
        """
        there = self._there(store)
        chosen = np.arange(len(store.items)) if rows is None else np.asarray(rows)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        names, by = self._answering(there, chosen)
        lacking = chosen[by < 0]
        if len(lacking):
            raise IncompleteSet(
                store.path,
                f"{len(lacking)} of {len(chosen)} rows have no vector in "
                f"{' or '.join(self.recipes)} (first: {store.items.id[lacking[0]]})",
                "extract them, or predict the complete rows only",
            )
        proba = np.empty((len(chosen), len(self.classes)))
        for number in np.unique(by):
            answered = np.flatnonzero(by == number)
            for start in range(0, len(answered), BLOCK):
                mine = answered[start : start + BLOCK]
                X = {n: store.feature_set(n).x(chosen[mine]) for n in parts_of(names[number])}
                proba[mine] = self.predict_arrays(X)
        answered_by = np.array(names, dtype=object)[by] if self.patterns else None
        return Predictions(store.items.id[chosen], self.classes, proba, answered_by)

    def ready(self, store: Any) -> np.ndarray:
        """(n,) bool: the rows of a store that have what the model needs. Raises as ``predict``."""
        return self._answering(self._there(store), np.arange(len(store.items)))[1] >= 0

    def _there(self, store: Any) -> dict[str, np.ndarray]:
        """{set: (n,) bool}: which rows have a vector that was made the model's way."""
        out = {}
        for name, recipe in self.recipes.items():
            if self.patterns and name not in store.sets:
                out[name] = np.zeros(len(store.items), dtype=bool)
                continue
            found = store.feature_set(name).recipe
            if found != recipe:
                raise RecipeMismatch(
                    f"set {name}",
                    "was made another way than the model's: "
                    + "; ".join(recipe.difference(found)[:6]),
                    "extract with the model's recipe",
                )
            out[name] = np.asarray(store.complete([name]), dtype=bool)
        return out

    def _answering(
        self, there: Mapping[str, np.ndarray], chosen: np.ndarray
    ) -> tuple[list[str], np.ndarray]:
        """Names of patterns, and for each chosen row (m,) the number of its own, -1 for none."""
        has = np.stack([own[chosen] for own in there.values()], axis=1)
        names = list(self.patterns) or ["+".join(self.widths)]
        by = np.full(len(chosen), -1)
        for kind in np.unique(has, axis=0):
            name = self.pattern([n for n, own in zip(there, kind) if own])
            if name is not None:
                by[(has == kind).all(axis=1)] = names.index(name)
        return names, by

    def save(self, path: str | Path) -> None:
        """Write the file whole. Raises BundleError for a head that cannot say its state,
        StorageError."""
        from safetensors.numpy import save

        arrays: dict[str, np.ndarray] = {}
        members = []
        for number, member in enumerate(self.members):
            kind = getattr(member.fitted, "kind", None)
            if kind not in HEAD_KINDS or not hasattr(member.fitted, "state"):
                raise BundleError(
                    f"head {member.head}",
                    f"a {type(member.fitted).__name__} cannot be saved without pickle",
                    "return one of headstock's own heads, or keep the bundle in memory",
                )
            meta, own = member.fitted.state()
            columns = np.asarray(member.fitted.classes_)
            members.append({"head": member.head, "on": member.on, "kind": kind, "meta": meta})
            arrays.update({f"{number}/{name}": value for name, value in own.items()})
            arrays[f"{number}/classes"] = columns
        fusion = _fusion_state(self.fusion, "fusion/", arrays)
        patterns = {
            name: {
                "members": how.members,
                "fusion": _fusion_state(how.fusion, f"fusion {name}/", arrays),
            }
            for name, how in self.patterns.items()
        }
        body = {
            "format": FORMAT,
            "version": self._version(),
            "members": members,
            "fusion": fusion,
            "classes": [str(c) for c in self.classes],
            "recipes": {name: recipe.to_json() for name, recipe in self.recipes.items()},
            "widths": self.widths,
            "provenance": self.provenance,
            "settings": self.settings,
        }
        if patterns:
            body["patterns"] = patterns
        whole = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        write_bytes(path, save(whole, {"headstock": json.dumps(body)}))

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Read a file that ``save`` wrote. Raises BundleError for any other, VersionError for a
        newer one, UnsafeInput for a model text that would harm the library that parses it."""
        body, arrays = _read(path)
        try:
            return cls._build(body, arrays)
        except HeadstockError as error:
            raise type(error)(path, f"{error.where}: {error.what}", error.fix) from error
        except Exception as error:
            raise BundleError(
                path, f"is damaged ({type(error).__name__}: {error})", "fit the model again"
            ) from error

    @classmethod
    def _build(cls, body: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Bundle:
        classes = np.array([str(c) for c in body["classes"]], dtype=object)
        widths = {str(name): int(width) for name, width in body["widths"].items()}
        if not 2 <= len(classes) < 1_000_000 or not all(
            0 < w < 10_000_000 for w in widths.values()
        ):
            raise BundleError("model", "declares absurd sizes", "fit the model again")
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise BundleError(
                    "model", f"{name} holds values that are not finite", "fit it again"
                )
        members = []
        for number, entry in enumerate(body["members"]):
            own = _under(arrays, f"{number}/")
            columns = own.pop("classes").astype(np.int64)
            if (
                columns.min() < 0
                or columns.max() >= len(classes)
                or len(set(columns)) < len(columns)
            ):
                raise BundleError(
                    "model", "a head answers with classes that do not exist", "fit it again"
                )
            if any(part not in widths for part in parts_of(entry["on"])):
                raise BundleError(
                    "model", "a head reads a set that is not declared", "fit it again"
                )
            module, _, attribute = HEAD_KINDS[entry["kind"]].partition(":")
            kind = getattr(import_module(module), attribute)
            fitted = kind.from_state(entry["meta"], own, len(columns))
            fitted.classes_ = columns
            members.append(Member(str(entry["head"]), str(entry["on"]), fitted))
        fusion = _fusion_from(body["fusion"], "fusion/", arrays, len(classes))
        patterns = {
            str(name): Pattern(
                [int(number) for number in how["members"]],
                _fusion_from(how["fusion"], f"fusion {name}/", arrays, len(classes)),
            )
            for name, how in body.get("patterns", {}).items()
        }
        groups = patterns or {"": Pattern(list(range(len(members))), fusion)}
        for name, how in groups.items():
            if len(how.members) != 1 and how.fusion is None:
                raise BundleError(
                    "model", f"{len(how.members)} heads and no fusion", "fit the model again"
                )
            reads = [p for number in how.members for p in parts_of(members[number].on)]
            reads += getattr(how.fusion, "reads", ())
            if patterns and not set(reads) <= set(parts_of(name)) <= set(widths):
                raise BundleError("model", f"pattern {name} reads other sets", "fit it again")
        recipes = {name: Recipe.from_json(text) for name, text in body["recipes"].items()}
        bundle = cls(
            members,
            fusion,
            classes,
            recipes,
            widths,
            dict(body["provenance"]),
            dict(body["settings"]),
            patterns,
        )
        if set(recipes) != set(widths):
            raise BundleError("model", "recipes and widths name other sets", "fit the model again")
        # Shapes that do not fit show here, not at a user's rows
        for name in patterns or ["+".join(widths)]:
            probe = {p: np.zeros((2, widths[p]), dtype=np.float32) for p in parts_of(name)}
            said = bundle.predict_arrays(probe)
            if said.shape != (2, len(classes)) or not np.isfinite(said).all():
                raise BundleError("model", "its answer is no probabilities", "fit the model again")
        return bundle

    def _version(self) -> int:
        """The oldest version of the format that holds this model."""
        fusions = [self.fusion, *(how.fusion for how in self.patterns.values())]
        plain = not self.patterns and all(getattr(f, "plain", True) for f in fusions)
        return 1 if plain else VERSION


def _beside(X: Mapping[str, np.ndarray], parts: Sequence[str]) -> np.ndarray:
    return X[parts[0]] if len(parts) == 1 else np.hstack([X[p] for p in parts])


def _fusion_state(fusion: Any, prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Any] | None:
    """What the file says of a fusion; its arrays go into ``arrays``."""
    if fusion is None:
        return None
    meta, own = fusion.state()
    arrays.update({prefix + name: value for name, value in own.items()})
    return {"kind": fusion.kind, "meta": meta}


def _fusion_from(
    entry: Mapping[str, Any] | None, prefix: str, arrays: Mapping[str, np.ndarray], k: int
) -> Any:
    if entry is None:
        return None
    return KINDS[entry["kind"]].from_state(entry["kind"], entry["meta"], _under(arrays, prefix), k)


def _under(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {n[len(prefix) :]: a for n, a in arrays.items() if n.startswith(prefix)}


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("headstock")
            if text is None:
                raise BundleError(path, "is no headstock model", "give a file that fit wrote")
            body = json.loads(text)
            if not isinstance(body, dict) or body.get("format") != FORMAT:
                raise BundleError(path, "is no headstock model", "give a file that fit wrote")
            if not isinstance(body.get("version"), int) or body["version"] > VERSION:
                raise VersionError(
                    path, f"model version {body.get('version')}", "use a newer headstock"
                )
            return body, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise BundleError(path, "there is no such file", "give a file that fit wrote") from error
    except OSError as error:
        raise StorageError(
            path, f"cannot be read ({error.strerror or error})", "check the path"
        ) from error
    except (SafetensorError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleError(
            path, f"is no headstock model ({error})", "give a file that fit wrote"
        ) from error
