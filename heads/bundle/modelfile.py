"""The file of a fitted model, which runs nothing when it is read.

``model.headstock`` is a safetensors file: the arrays of every fitted head and fusion, and one JSON
text in its metadata for everything else. There is no pickle in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstock.heads.bundle.members import Member, Pattern
from headstock.heads.files import write_bytes
from headstock.heads.fusion.fusions import KINDS, KINDS_OF_NUMBERS
from headstock.heads.metrics.cost import COSTS
from headstock.heads.rows.labelled import parts_of
from headstock.heads.search.tuning import Tuned
from headstock.heads.specs import CLASSES, class_of
from headstock.heads.userfile import OWN, described, is_own, kind_of, with_state
from headstock.store.disk.outputs import refuse_other
from headstock.store.errors import BundleError, HeadstockError, StorageError, VersionError
from headstock.store.jsonfile import parse_json
from headstock.store.recipe import Recipe
from headstock.store.textfile import refuse_odd

if TYPE_CHECKING:
    from headstock.heads.bundle.bundle import Bundle

__all__ = ["read_model", "write_model"]

FORMAT, VERSION = "headstock model", 3
"""Version 1: members, all sets of a row there, fusions without features, stacks by the logistic
head. Version 2 may have patterns, other stacks and heads from a file of the user's own. Version 3
may learn numbers, and has no classes then. What an older version can hold is written as it."""


def write_model(bundle: Bundle, path: str | Path) -> None:
    """See ``Bundle.save``."""
    refuse_other(path, "model")
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {}
    members = []
    for number, member in enumerate(bundle.members):
        # a tuned head is what it chose
        fitted: Any = member.fitted.head_ if isinstance(member.fitted, Tuned) else member.fitted
        kind = getattr(fitted, "kind", None)
        entry: dict[str, Any] = {"head": member.head, "on": member.on, "kind": kind}
        if not type(fitted).__module__.startswith("headstock.heads."):
            entry |= {"kind": OWN, **described(fitted, member.head)}
        entry["meta"], own = fitted.state()
        members.append(entry)
        arrays.update({f"{number}/{name}": value for name, value in own.items()})
        if bundle.target == CLASSES:
            arrays[f"{number}/classes"] = np.asarray(member.fitted.classes_)
    fusion = _fusion_state(bundle.fusion, "fusion/", arrays)
    patterns = {
        name: {
            "members": how.members,
            "fusion": _fusion_state(how.fusion, f"fusion {name}/", arrays),
        }
        for name, how in bundle.patterns.items()
    }
    body = {
        "format": FORMAT,
        "version": _version(bundle),
        "members": members,
        "fusion": fusion,
        "classes": [str(c) for c in bundle.classes],
        "recipes": {name: recipe.to_json() for name, recipe in bundle.recipes.items()},
        "widths": bundle.widths,
        "provenance": bundle.provenance,
        "settings": bundle.settings,
    }
    if patterns:
        body["patterns"] = patterns
    whole = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    write_bytes(path, save(whole, {"headstock": json.dumps(body)}))


def read_model(
    make: type[Bundle], path: str | Path, head_files: Sequence[str | Path] = ()
) -> Bundle:
    """``Bundle.load``, which ``make`` is."""
    body, arrays = _read(path)
    try:
        return _build(make, body, arrays, head_files)
    except HeadstockError as error:
        raise type(error)(path, f"{error.where}: {error.what}", error.fix) from error
    except Exception as error:
        raise BundleError(
            path, f"is damaged ({type(error).__name__}: {error})", "fit the model again"
        ) from error


def _build(
    make: type[Bundle],
    body: dict[str, Any],
    arrays: Mapping[str, np.ndarray],
    head_files: Sequence[str | Path],
) -> Bundle:  # fmt: skip
    classes = np.array([str(c) for c in body["classes"]], dtype=object)
    widths = {str(name): int(width) for name, width in body["widths"].items()}
    sizes = widths.values()
    several = 2 <= len(classes) < 1_000_000 or (not len(classes) and body["version"] >= 3)
    if not several or min(sizes, default=0) < 1 or sum(sizes) > 10_000_000:
        raise BundleError("model", "declares absurd sizes", "fit the model again")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BundleError("model", f"{name} holds values that are not finite", "fit it again")
    members = []
    for number, entry in enumerate(body["members"]):
        own = _under(arrays, f"{number}/")
        columns = own.pop("classes").astype(np.int64) if len(classes) else np.zeros(1, np.int64)
        last = max(len(classes), 1)
        if columns.min() < 0 or columns.max() >= last or len(set(columns)) < len(columns):
            raise BundleError(
                "model", "a head answers with classes that do not exist", "fit it again"
            )
        if any(part not in widths for part in parts_of(entry["on"])):
            raise BundleError("model", "a head reads a set that is not declared", "fit it again")
        name = str(entry["head"])
        if entry["kind"] == OWN:
            kind = kind_of(entry, name, head_files)
            fitted = with_state(kind, entry["meta"], own, len(columns), name)
        else:
            fitted = class_of(entry["kind"]).from_state(entry["meta"], own, len(columns))
        if len(classes):
            fitted.classes_ = columns
        members.append(Member(name, str(entry["on"]), fitted))
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
    bundle = make(
        members,
        fusion,
        classes,
        recipes,
        widths,
        dict(body["provenance"]),
        dict(body["settings"]),
        patterns,
    )
    half = bundle.halves
    if half and set(half) != set(patterns or ["+".join(widths)]):
        raise BundleError("model", "its intervals are of other sets", "fit the model again")
    if not all(isinstance(v, int | float) and 0 <= v < np.inf for v in half.values()):
        raise BundleError("model", "its intervals are no widths", "fit the model again")
    least = bundle.least
    if least and set(least) != set(patterns or ["+".join(widths)]):
        raise BundleError("model", "its sets of classes are of other sets", "fit the model again")
    shares = [np.asarray(own, dtype=object) for own in least.values()]
    if not all(own.shape == (len(classes),) and all(map(_is_share, own)) for own in shares):
        raise BundleError("model", "its sets of classes are no shares", "fit the model again")
    costs, k = bundle.settings.get(COSTS), len(classes)
    if costs is not None:
        table = np.asarray(costs, dtype=object)
        numbers = [isinstance(one, int | float) and 0 <= one < np.inf for one in table.ravel()]
        if table.shape != (k, k) or not all(numbers):
            raise BundleError("model", "its costs are no numbers", "fit the model again")
    if set(recipes) != set(widths):
        raise BundleError("model", "recipes and widths name other sets", "fit the model again")
    # Shapes that do not fit show here, not at a user's rows
    for name in patterns or ["+".join(widths)]:
        probe = {p: np.zeros((2, widths[p]), dtype=np.float32) for p in parts_of(name)}
        said = bundle.predict_arrays(probe)
        if said.shape != (2, len(classes) or 1) or not np.isfinite(said).all():
            what = "probabilities" if len(classes) else "numbers"
            raise BundleError("model", f"its answer is no {what}", "fit the model again")
    return bundle


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _version(bundle: Bundle) -> int:
    """The oldest version of the format that holds this model."""
    if bundle.target != CLASSES:
        return VERSION
    fusions = [bundle.fusion, *(how.fusion for how in bundle.patterns.values())]
    ours = all(hasattr(m.fitted, "kind") and not is_own(m.head) for m in bundle.members)
    plain = not bundle.patterns and all(getattr(f, "plain", True) for f in fusions)
    return 1 if plain and ours else 2


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
    kinds = KINDS if k else KINDS_OF_NUMBERS
    return kinds[entry["kind"]].from_state(entry["kind"], entry["meta"], _under(arrays, prefix), k)


def _under(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {n[len(prefix) :]: a for n, a in arrays.items() if n.startswith(prefix)}


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from safetensors import SafetensorError, safe_open

    refuse_odd(path, "give a file that fit wrote")
    try:
        with open(path, "rb"):  # safetensors says of one that may not be read that it is not there
            pass
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("headstock")
            if text is None:
                raise BundleError(path, "is no headstock model", "give a file that fit wrote")
            body = parse_json(text)
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
