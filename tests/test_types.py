"""What a user's type checker sees: true types of all that is public, mistakes, pages."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import documents
import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("headstock.store", "headstock.extract", "headstock.heads")
SCRIPT = """\
from headstock.extract import extract, image_encoder
from headstock.heads import Bundle, evaluate, fit
from headstock.store import FeatureStore, Manifest

manifest = Manifest.read("index.csv")
with FeatureStore.open("features.h5", "a") as store:
    account = extract(store, manifest.items, {"image": image_encoder("headstock:resnext_nano")})
    result = evaluate(store, heads=["lda"], folds=5)
    model = fit(store, "lda")
    vectors = store.feature_set("image").x()
    reveal_type(store)
    reveal_type(account)
    reveal_type(result)
    reveal_type(model)
    reveal_type(vectors)
    reveal_type(Bundle.load("model.headstock"))
    reveal_type(model.predict(store))
"""
MISTAKES = {
    "from headstock.store import FeaturesStore": "FeaturesStore",
    "store.itmes": "itmes",
    "evaluate(store, folds=2.5)": "folds",
    'fit(store, head=["lda"])': "head",
    "model.predict(store).probabilites": "probabilites",
}
REVEALED = (
    "store.features.FeatureStore", "account.Account", "result.Evaluation", "bundle.Bundle",
    "ndarray", "bundle.Bundle", "predictions.Predictions",
)  # fmt: skip


def blocks(page: Path) -> str:
    """The page's python blocks, one after the other, as its reader runs them."""
    return "\n".join(body for kind, body in documents.BLOCK.findall(page.read_text("utf-8"))
                     if kind == "python")  # fmt: skip


@pytest.fixture(scope="module")
def findings(tmp_path_factory) -> dict[str, list[str]]:
    """{script: what mypy --strict says of it}, all in one run."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "site").mkdir()
    (folder / "site/headstock").symlink_to(ROOT)
    (folder / "right.py").write_text(SCRIPT)
    (folder / "wrong.py").write_text(SCRIPT + "\n".join(MISTAKES) + "\n")
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        if text := blocks(page):
            name = re.sub(r"\W", "_", page.relative_to(ROOT).with_suffix("").as_posix())
            (folder / f"page_{name}.py").write_text(text)
    scripts = sorted(path.name for path in folder.glob("*.py"))
    words = ["--strict", "--follow-imports=silent", "--ignore-missing-imports", "--no-color-output"]
    cache = f"--cache-dir={folder / 'cache'}"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words, cache, "--python-version=3.11", *scripts],
        cwd=folder, env={"MYPYPATH": str(folder / "site"), "PATH": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found: dict[str, list[str]] = {name: [] for name in scripts}
    for line in done.stdout.splitlines():
        name, colon, rest = line.partition(":")
        if colon and name in found:
            found[name].append(rest)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return found


def test_public_names_have_their_types(findings):
    notes = [line for line in findings["right.py"] if "Revealed type" in line]
    assert [line for line in findings["right.py"] if "error" in line] == []
    assert len(notes) == len(REVEALED)
    for line, wanted in zip(notes, REVEALED):
        assert wanted in line


def test_each_planted_mistake_is_found(findings):
    errors = [line for line in findings["wrong.py"] if "error" in line]
    first = SCRIPT.count("\n") + 1
    assert [int(line.split(":")[0]) for line in errors] == [first + i for i in range(len(MISTAKES))]
    for line, word in zip(errors, MISTAKES.values()):
        assert word in line


def test_the_pages_hold_in_strict_mode(findings):
    pages = {name: said for name, said in findings.items() if name.startswith("page_")}
    assert len(pages) > 5
    assert {
        name: said for name, said in pages.items() if any("error" in line for line in said)
    } == {}


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_type_checker_sees_is_what_is_imported(room):
    """The imports under TYPE_CHECKING and the table of lazy names are the same."""
    module = importlib.import_module(room)
    text = Path(module.__file__).read_text("utf-8")
    seen = re.findall(r"^    from ([\w.]+) import (\w+) as \2$", text, re.M)
    assert sorted(name for _, name in seen) == sorted(module.__all__)
    for home, name in seen:
        made = importlib.import_module(home)
        assert getattr(module, name) in (getattr(made, name), sys.modules.get(f"{room}.{name}"))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(module, "nonsense")  # noqa: B009
