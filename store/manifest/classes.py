"""Names of classes: from a list, a mapping or a file, put in the place of labels 0, 1, …; and
labels that differ in nothing that a reader sees."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from headstock.store.errors import ManifestError, OptionError, one_line
from headstock.store.textfile import lines_of, read_text

__all__ = ["ClassNames", "class_names", "join_forms", "named"]

ClassNames = str | Path | Sequence[str] | Mapping[str, str]
_NUMBERED = re.compile(r"(\d+)\s*[:,;=\t ]\s*(\S.*)")
_WHOLE = re.compile(r"(\d+)\.0*")


def class_names(source: ClassNames) -> Mapping[str, str] | list[str]:
    """The names as a list for labels 0, 1, …, or as a mapping from label to name.

    ``source``: a file of one name a line, with or without its number before it, or names parted by
    commas; or the list or mapping itself. Raises OptionError or ManifestError (as file:line) for a
    blank name, one that comes twice, and a file that is not there.
    """
    if isinstance(source, Mapping):
        return {str(k): str(v) for k, v in source.items()}
    if isinstance(source, str | Path):
        if Path(source).is_file():
            return _of_file(Path(source))
        where = "--class-names"
        names = [name.strip() for name in str(source).split(",")]
        if len(names) == 1:
            fix = "name a text file of one name a line, or two or more names with commas"
            raise OptionError(where, f"{source!r} is no file", fix)
    else:
        where, names = "class names", [str(name) for name in source]
    _check(names, [f"{where}, name {i + 1}" for i in range(len(names))])
    return names


def _of_file(path: Path) -> Mapping[str, str] | list[str]:
    names = [line.strip() for line in lines_of(read_text(path, "give a text file of names"))]
    while names and not names[-1]:  # what an editor leaves at the end
        names.pop()
    if not names:
        raise ManifestError(f"{path}:1", "holds no class name", "write one name a line")
    _check(names, [f"{path}:{i + 1}" for i in range(len(names))])
    parts = [_NUMBERED.fullmatch(name) for name in names]
    if all(parts):
        found = [(str(int(p[1])), p[2]) for p in parts if p]
        first = int(found[0][0])
        if first in (0, 1) and [int(k) for k, _ in found] == list(range(first, first + len(found))):
            _check([v for _, v in found], [f"{path}:{i + 1}" for i in range(len(names))])
            return dict(found)
    return names


def _check(names: Sequence[str], places: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        if not name.strip():
            fix = "each line is the name of one label, in their order"
            raise ManifestError(places[i], "a blank class name", fix)
        key = unicodedata.normalize("NFC", name)
        if key in seen:
            fix = "two classes of one name would become one"
            raise ManifestError(places[i], f"the class name {name!r} comes twice", fix)
        seen[key] = i


def named(
    labels: Sequence[str], names: Mapping[str, str] | list[str], source: str
) -> tuple[list[str], list[str]]:
    """The labels by name, ``""`` staying ``""``, and lines to say of it.

    Raises ManifestError for a label without a name; and, where names come as a list, for names
    beyond the last label: one line too many at the top would move every name by one.
    """
    counts = Counter(label for label in labels if label)
    known = names if isinstance(names, Mapping) else {str(i): v for i, v in enumerate(names)}
    keys = {}
    for label in counts:
        whole = _WHOLE.fullmatch(label)
        keys[label] = label if label in known or not whole else str(int(whole[1]))
        if keys[label] not in known:
            shown = ", ".join(list(known)[:3]) + (f" … {list(known)[-1]}" if len(known) > 3 else "")
            what = f"label {label!r} ({counts[label]:,} rows) has no class name"
            fix = f"there are {len(known)} names, for labels {shown}"
            if isinstance(names, list) and label == str(len(names)) and "0" not in counts:
                fix += "; where labels begin at 1, write the number before each name: 1 cat"
            raise ManifestError(source, what, fix)
    if counts and isinstance(names, list):
        last = max(int(key) for key in keys.values())
        if last + 1 != len(names):
            raise ManifestError(
                source,
                f"{len(names)} class names for labels up to {last} (name {last + 2} is "
                f"{names[last + 1]!r})",
                "give one name a label and no header line; or write the number before each name: "
                f"0 {names[0]}",
            )
    lines = []
    if odd := [label for label, key in keys.items() if label != key]:
        rows = sum(counts[label] for label in odd)
        lines.append(f"labels such as {odd[0]!r} are read as whole numbers ({rows:,} rows)")
    if isinstance(names, Mapping):
        unused = [v for k, v in known.items() if k not in keys.values()]
        if counts and unused:
            shown = ", ".join(one_line(v, 40) for v in unused[:5])
            lines.append(f"{len(unused)} class names have no row ({shown})")
    return [known[keys[label]] if label else "" for label in labels], lines


def join_forms(labels: Sequence[str], known: Iterable[str] = ()) -> tuple[Sequence[str], list[str]]:
    """``labels`` (n,) with those that differ in Unicode form alone (``café`` as four letters and
    as five) written one way, and a line for each that was.

    The form that ``known`` labels have goes before, then the most frequent one.
    """
    counts = Counter(label for label in labels if label)
    forms: dict[str, list[str]] = {}
    for label in [*dict.fromkeys(known), *sorted(counts, key=lambda v: (-counts[v], v))]:
        if not label.isascii():
            spellings = forms.setdefault(unicodedata.normalize("NFC", label), [])
            spellings += [label] if label not in spellings else []
    moved = {other: one for one, *others in forms.values() for other in others if counts[other]}
    if not moved:
        return labels, []
    lines = [
        f"label {one_line(one, 40)!r} is written in two Unicode forms: {counts[other]:,} rows of "
        "the other form joined to it"
        for other, one in moved.items()
    ]
    return [moved.get(label, label) for label in labels], lines
