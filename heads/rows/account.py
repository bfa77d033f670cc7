"""What to say of the rows that were read, and of those that were left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headstock.heads.rows.foldless import foldless_line
from headstock.heads.rows.rare import rare_line

__all__ = ["account_lines"]


def account_lines(account: Mapping[str, Any], use: str) -> list[str]:
    """A line for each reason why rows are not all that a store holds. ``use``: what becomes of the
    others, such as ``scored``."""
    lines = [f"target: {account['target']}"] if account.get("target") else []
    lines += account.get("joined_labels") or []
    if account.get("unlabelled"):
        lines.append(f"{account['unlabelled']} rows without a label are not {use}")
    for name, count in (account.get("unseen") or {}).items():
        lines.append(
            f"{count} rows of {name}: their files were absent or unreadable when last looked for; "
            "their vectors are those of before"
        )
    if account.get("excluded_incomplete"):
        lines.append(
            f"{account['excluded_incomplete']} labelled rows lack a vector and are left out"
        )
    if account.get("dropped"):
        lines.append(f"{account['dropped']} rows are copies of others and are left out")
    return [*lines, *filter(None, [rare_line(account), foldless_line(account)])]
