"""README and the pages of docs/: every command and snippet runs, the site builds, nothing is asked
of the network."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import documents
import pytest

ROOT = Path(__file__).parents[1]
PAGES = documents.pages()


def test_the_readme_says_how_to_start():
    head = (ROOT / "README.md").read_text("utf-8")[:2500]
    assert "make demo" in head
    assert "make test" in head


def test_there_is_something_to_run_and_nothing_that_is_not():
    """A block of another language would be a snippet that no test runs."""
    assert {"README.md", "docs/tutorial.md", "docs/troubleshooting.md"} <= set(PAGES)
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        written = documents.LANGUAGE.findall(page.read_text("utf-8"))
        assert set(written[::2]) <= {"console", "python", "sh", "text", "json"}, page


def test_the_runner_sees_what_goes_wrong(tmp_path, monkeypatch):
    """A page that fails in each way is told by its step."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    for number, (block, step) in enumerate(
        [
            ("```python\n1 / 0\n```", "1 / 0\n"),
            ("```console\n$ ls nowhere\n```", "ls nowhere"),
            ("```sh\nls nowhere\ntrue\n```", "ls nowhere\ntrue\n"),
            ("```sh\nls nowhere &\ntrue\n```", "ls nowhere &\ntrue\n"),
            ("```sh\nls nowhere &\nsleep 0.3\n```", "ls nowhere &\nsleep 0.3\n"),
            ("```console\n$ headstock nonsense\n```", "headstock nonsense"),
            ("```console\n$ headstock list heads # exit 3\n```", "headstock list heads # exit 3"),
            ("```console\n$ headstock list heads\nno … head\n```", "headstock list heads"),
            ("```console\n$ headstock list heads\nlda …=auto\n$ make test\ny\n```", None),
            ("```sh\ntest $SLURM_ARRAY_TASK_COUNT = 64 && echo cpu\n```", None),
        ]
    ):
        (tmp_path / "page.md").write_text(block + "\n")
        assert documents.tell("page.md", home, tmp_path / f"{number}")["step"] == step


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Runs pages in a process of their own, once for each call's list."""
    base = tmp_path_factory.mktemp("pages")

    def run(pages):
        folder = base / f"{len(list(base.iterdir()))}"
        folder.mkdir()
        words = [sys.executable, ROOT / "tests/documents.py", folder, *pages]
        env = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS",)}
        done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
        answers = [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"]
        assert len(answers) == len(pages), done.stderr[-3000:]
        return answers

    return run


def test_every_command_and_snippet_of_the_quick_pages_runs(told):
    for answer in told([page for page in PAGES if not documents.is_slow(page)]):
        assert answer["step"] is None, json.dumps(answer, indent=1)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if documents.is_slow(page)])
def test_every_command_and_snippet_of_the_slow_pages_runs(told, page):
    (answer,) = told([page])
    assert answer["step"] is None, json.dumps(answer, indent=1)


class Requests(HTMLParser):
    """Addresses that a browser fetches when it opens the page."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag in ("script", "img", "iframe", "source", "audio", "video", "embed"):
            self.found.append(given.get("src"))
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev", "alternate"):
            self.found.append(given.get("href"))
        self.found += re.findall(r"url\((.*?)\)", given.get("style") or "")


def test_the_site_builds_and_asks_nothing_of_the_network(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-f", "docs/site/mkdocs.yml", "-d", tmp_path],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    outside = re.compile(r"^(https?:)?//")
    html = sorted(tmp_path.rglob("*.html"))
    assert len(html) >= 14
    for page in html:
        seen = Requests()
        seen.feed(page.read_text("utf-8"))
        assert not [a for a in seen.found if a and outside.match(a)], page
    for sheet in tmp_path.rglob("*.css"):
        text = sheet.read_text("utf-8")
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", text), sheet
    said = (tmp_path / "reference/cli.html").read_text("utf-8")
    for command in ("extract", "evaluate", "predict", "verify", "doctor"):
        assert f'id="headstock-{command}"' in said or f"headstock-store-{command}" in said, command
    python = (tmp_path / "reference/python.html").read_text("utf-8")
    assert "FeatureStore" in python
    assert "StoreDamaged" in python


def test_every_page_is_in_the_navigation():
    config = (ROOT / "docs/site/mkdocs.yml").read_text("utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert f": {name}\n" in config, f"{name} is in no menu"


def test_the_words_are_few_and_used():
    """Twenty nouns at most, each of them found on another page."""
    page = (ROOT / "docs/glossary.md").read_text("utf-8")
    rows = re.findall(r"^\| \*\*([\w -]+)\*\*", page, re.M)
    assert 10 < len(rows) == len(set(rows)) <= 20
    others = [page for page in (ROOT / "docs").rglob("*.md") if page.name != "glossary.md"]
    text = "\n".join(other.read_text("utf-8") for other in others)
    assert [word for word in rows if word not in text] == []


def anchors(page: Path) -> set[str]:
    """The headings of a page as a link names them."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    words = (re.sub(r"[^\w\s-]", "", head).strip().lower() for head in HEADING.findall(text))
    return {re.sub(r"\s+", "-", head) for head in words}


HEADING = re.compile(r"^#+ (.*)$", re.M)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s#]*)(?:#([^)\s]+))?\)")


def test_every_link_leads_somewhere():
    """To a file that is there, and to a heading that it has."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    for page in [*pages, *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md")]:
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
        for place, anchor in LINK.findall(text):
            target = page.parent / place if place else page
            assert target.exists(), f"{page.name}: {place}"
            if anchor and target.suffix == ".md":
                assert anchor in anchors(target), f"{page.name}: {place}#{anchor}"
