"""What a notebook shows of results, with hostile names in them."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from headstock.heads import evaluate
from headstock.heads.report.notebook import LARGEST, page_html
from headstock.heads.report.page.write import Written

EVIL = '<img src=x onerror="alert(1)">'


class Seen(HTMLParser):
    """Tags with their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.said: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.said.append(data)


def test_a_leaderboard_is_a_table(store) -> None:
    result = evaluate(store, ("lda", "knn"), fusions=("mean",), folds=3)
    first, *others = result.leaderboard
    result.run = replace(result.run, leaderboard=(replace(first, on=EVIL), *others))
    html = result._repr_html_()
    seen = Seen(html)
    names = [tag for tag, _ in seen.tags]
    assert names.count("tr") == 2 + len(result.leaderboard)  # the header, and guessing
    assert "img" not in names
    assert set(names) <= {"table", "caption", "thead", "tbody", "tr", "th", "td", "b", "span"}
    said = "".join(seen.said)
    assert EVIL in said
    assert f"{result.leaderboard[0].accuracy.value:.4f}" in said


def test_a_report_is_shown_in_a_frame(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(f"<!DOCTYPE html><p title='\"'>{EVIL} &amp; ü</p>", encoding="utf-8")
    written = Written(page, page.stat().st_size, 0, 0, 0, 0, [EVIL])
    seen = Seen(written._repr_html_())
    frame = dict(seen.tags)["iframe"]
    assert frame["srcdoc"] == page.read_text("utf-8")
    assert "allow-same-origin" not in frame["sandbox"]
    assert "img" not in [tag for tag, _ in seen.tags]
    assert EVIL in "".join(seen.said)


@pytest.mark.parametrize("gone", [True, False])
def test_a_large_or_missing_page_is_linked(tmp_path: Path, gone: bool) -> None:
    page = tmp_path / 'a"b.html'
    if not gone:
        with page.open("wb") as file:
            file.truncate(LARGEST + 1)
    seen = Seen(page_html(page, "told"))
    assert dict(seen.tags)["a"]["href"] == str(page)
    assert "iframe" not in [tag for tag, _ in seen.tags]
