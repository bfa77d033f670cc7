"""Checks of boosted models' text before a native library parses it.

LightGBM and XGBoost trust their model files: a child or feature number out of range makes them read
outside their memory. What is checked here is what they follow as an index when they predict.
"""

from __future__ import annotations

from typing import Any

from headstock.store.errors import UnsafeInput
from headstock.store.jsonfile import parse_json

__all__ = ["check_lightgbm", "check_xgboost"]


def _refuse(library: str, what: str) -> UnsafeInput:
    return UnsafeInput(f"{library} model", what, "fit the model again")


def check_lightgbm(text: str) -> None:
    """Raises UnsafeInput unless every tree of a LightGBM text model is a well-formed binary tree on
    numeric columns that the header declares."""
    try:
        head, *blocks = text.split("end of trees")[0].split("\nTree=")
        header = _pairs(head)
        columns = int(header["max_feature_idx"]) + 1
        classes, per_round = int(header["num_class"]), int(header["num_tree_per_iteration"])
        sizes = header["tree_sizes"].split()
        if header.get("version") != "v4":
            raise _refuse("LightGBM", f"is of version {header.get('version')}, not v4")
        if not head.startswith("tree\n") or "end of trees" not in text:
            raise _refuse("LightGBM", "does not read as one")
        if not (0 < columns < 10_000_000 and 0 < classes == per_round < 100_000):
            raise _refuse("LightGBM", "declares absurd sizes")
        if len(sizes) != len(blocks) or len(blocks) % per_round:
            raise _refuse("LightGBM", "declares another number of trees than it has")
        position = text.index("\nTree=") + 1
        for number, (size, block) in enumerate(zip(sizes, blocks)):
            if not text.startswith(f"Tree={number}\n", position):
                raise _refuse("LightGBM", "has tree sizes that are wrong")
            position += int(size)
            _check_tree(_pairs("number=" + block), columns, number)
    except (KeyError, ValueError, OverflowError) as error:
        raise _refuse("LightGBM", f"does not read as one ({error})") from error


def _pairs(block: str) -> dict[str, str]:
    """``name=value`` lines; a name given twice is refused: the library may take the other."""
    out: dict[str, str] = {}
    for line in block.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            if name in out:
                raise ValueError(f"{name} is given twice")
            out[name] = value
    return out


def _check_tree(tree: dict[str, str], columns: int, number: int) -> None:
    leaves = int(tree["num_leaves"])
    if (
        not 1 <= leaves < 10_000_000
        or int(tree.get("num_cat", "0"))
        or int(tree.get("is_linear", "0"))
    ):
        raise _refuse("LightGBM", f"has a tree {number} of a kind that headstock never writes")

    def numbers(name: str, kind: Any, length: int) -> list[Any]:
        values = [kind(v) for v in tree.get(name, "").split()]
        if len(values) != length:
            raise ValueError(f"{name} of tree {number} has {len(values)} values, not {length}")
        return values

    numbers("leaf_value", float, leaves)
    if leaves == 1:
        return
    inner = leaves - 1
    numbers("threshold", float, inner)
    if any(not 0 <= f < columns for f in numbers("split_feature", int, inner)):
        raise _refuse("LightGBM", f"splits tree {number} on a column it does not have")
    if any(kind & 1 or not 0 <= kind < 16 for kind in numbers("decision_type", int, inner)):
        raise _refuse("LightGBM", f"has a categorical split in tree {number}")
    children = numbers("left_child", int, inner) + numbers("right_child", int, inner)
    # Each inner node but the root and each leaf is the child of exactly one node, of a lower number
    if sorted(children) != [*range(-leaves, 0), *range(1, inner)]:
        raise _refuse("LightGBM", f"has a tree {number} whose children are not a tree's")
    if any(child >= 0 and child <= at % inner for at, child in enumerate(children)):
        raise _refuse("LightGBM", f"has a tree {number} that runs in a circle")


def check_xgboost(text: bytes) -> None:
    """Raises UnsafeInput unless every tree of an XGBoost JSON model is a well-formed binary tree on
    numeric columns that the header declares."""
    try:
        learner = parse_json(text)["learner"]
        columns = int(learner["learner_model_param"]["num_feature"])
        classes = int(learner["learner_model_param"]["num_class"])
        booster = learner["gradient_booster"]
        if booster["name"] != "gbtree":
            raise _refuse("XGBoost", "is no tree model")
        trees, info = booster["model"]["trees"], booster["model"]["tree_info"]
        if len(info) != len(trees) or any(not 0 <= int(i) < max(classes, 1) for i in info):
            raise _refuse("XGBoost", "gives its trees to classes that do not exist")
        for tree in trees:
            left, right = tree["left_children"], tree["right_children"]
            split, size = tree["split_indices"], len(left)
            same = all(
                len(tree[k]) == size
                for k in (
                    "right_children",
                    "split_indices",
                    "split_conditions",
                    "default_left",
                    "parents",
                    "split_type",
                    "base_weights",
                )
            )
            if not same or int(tree["tree_param"]["num_nodes"]) != size or any(tree["categories"]):
                raise _refuse("XGBoost", "has a tree whose columns differ in length")
            for node in range(size):
                a, b = left[node], right[node]
                leaf = a == b == -1
                if not leaf and not (node < a < size and node < b < size):
                    raise _refuse("XGBoost", "has a tree whose children are not a tree's")
                if (not leaf and not 0 <= split[node] < columns) or tree["split_type"][node]:
                    raise _refuse("XGBoost", "splits on a column it does not have")
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise _refuse(
            "XGBoost", f"does not read as one ({type(error).__name__}: {error})"
        ) from error
