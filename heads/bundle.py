"""A fitted model in one file that runs nothing when it is read.

``model.headstock`` is a safetensors file: the arrays of every fitted head and fusion, and one JSON
text in its metadata for everything else. There is no pickle in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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

__all__ = ["Bundle", "Member"]

FORMAT, VERSION = "headstock model", 1

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


@dataclass
class Member:
    """One fitted head and the sets it reads."""

    head: str
    on: str
    fitted: Head


@dataclass
class Bundle:
    """Fitted heads, the fusion that joins them (None for a single head), class names (k,), and what
    the vectors they read must be: recipe and width of each set."""

    members: list[Member]
    fusion: Any
    classes: np.ndarray
    recipes: dict[str, Recipe]
    widths: dict[str, int]
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def predict_arrays(self, X: Mapping[str, np.ndarray]) -> np.ndarray:
        """(m, k) probabilities from {set: (m, d) float32}. Raises BundleError for a wrong width."""
        for name, width in self.widths.items():
            if name not in X or X[name].ndim != 2 or X[name].shape[1] != width:
                got = X[name].shape if name in X else "nothing"
                raise BundleError(f"set {name}", f"the model reads {width} columns, got {got}")
        k, said = len(self.classes), []
        for member in self.members:
            parts = parts_of(member.on)
            matrix = X[parts[0]] if len(parts) == 1 else np.hstack([X[p] for p in parts])
            said.append(full_proba(member.fitted, member.head, matrix, k))
        return said[0] if self.fusion is None else self.fusion.predict(np.stack(said, axis=1))

    def predict(self, store: Any, rows: np.ndarray | None = None) -> Predictions:
        """Predict a store's rows (row numbers or a mask; all by default).

        Raises MissingSet, RecipeMismatch with the differing fields, and IncompleteSet when a wanted
        row lacks a vector.
        """
        for name, recipe in self.recipes.items():
            there = store.feature_set(name).recipe
            if there != recipe:
                raise RecipeMismatch(
                    f"set {name}",
                    "was made another way than the model's: "
                    + "; ".join(recipe.difference(there)[:6]),
                    "extract with the model's recipe",
                )
        chosen = np.arange(len(store.items)) if rows is None else np.asarray(rows)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        lacking = chosen[~np.asarray(store.complete(list(self.recipes)), dtype=bool)[chosen]]
        if len(lacking):
            raise IncompleteSet(
                store.path,
                f"{len(lacking)} of {len(chosen)} rows have no vector in "
                f"{' or '.join(self.recipes)} (first: {store.items.id[lacking[0]]})",
                "extract them, or predict the complete rows only",
            )
        X = {name: store.feature_set(name).x(chosen) for name in self.recipes}
        return Predictions(store.items.id[chosen], self.classes, self.predict_arrays(X))

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
        fusion = None
        if self.fusion is not None:
            meta, own = self.fusion.state()
            fusion = {"kind": self.fusion.kind, "meta": meta}
            arrays.update({f"fusion/{name}": value for name, value in own.items()})
        body = {
            "format": FORMAT,
            "version": VERSION,
            "members": members,
            "fusion": fusion,
            "classes": [str(c) for c in self.classes],
            "recipes": {name: recipe.to_json() for name, recipe in self.recipes.items()},
            "widths": self.widths,
            "provenance": self.provenance,
            "settings": self.settings,
        }
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
        fusion = None
        if body["fusion"] is not None:
            kind, meta = body["fusion"]["kind"], body["fusion"]["meta"]
            own = _under(arrays, "fusion/")
            fusion = KINDS[kind].from_state(kind, meta, own, len(classes))
        elif len(members) != 1:
            raise BundleError("model", f"{len(members)} heads and no fusion", "fit the model again")
        recipes = {name: Recipe.from_json(text) for name, text in body["recipes"].items()}
        bundle = cls(
            members,
            fusion,
            classes,
            recipes,
            widths,
            dict(body["provenance"]),
            dict(body["settings"]),
        )
        if set(recipes) != set(widths):
            raise BundleError("model", "recipes and widths name other sets", "fit the model again")
        probe = {name: np.zeros((2, width), dtype=np.float32) for name, width in widths.items()}
        said = bundle.predict_arrays(
            probe
        )  # shapes that do not fit show here, not at a user's rows
        if said.shape != (2, len(classes)) or not np.isfinite(said).all():
            raise BundleError("model", "its answer is no probabilities", "fit the model again")
        return bundle


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
