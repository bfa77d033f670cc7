"""What a user installs: the packages, the files in the wheel, and what an import costs."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "timm", "sklearn", "scipy", "lightgbm", "h5py", "pandas", "numpy"}


def _modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_every_folder_with_code_is_a_declared_package():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "packages"
    ]
    found = {
        ".".join(("headstock", *path.parent.relative_to(ROOT).parts))
        for room in ("store", "extract", "heads")
        for path in (ROOT / room).rglob("*.py")
    }
    assert {"headstock", *found} == set(declared)


def test_help_imports_nothing_heavy():
    code = "from headstock.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert not HEAVY & _modules_after(code)


@pytest.mark.parametrize("room", ["store", "heads", "extract"])
def test_rooms_import_without_torch(room):
    assert not {"torch", "timm", "lightgbm"} & _modules_after(f"import headstock.{room}")


def test_wheel_contents(tmp_path):
    command = [sys.executable, "-m", "build", "--no-isolation", "-o", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)  # by the sdist: build/ may be old
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    code = {name for name in names if ".dist-info/" not in name}
    assert "headstock/py.typed" in code  # type checkers believe the hints only then
    assert "headstock/extract/encoders/weights/resnext_nano.safetensors" in code
    assert "headstock/extract/encoders/weights/resnext_nano.json" in code
    assert not {n for n in code if n.split("/")[1] not in _rooms()}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    modules = {
        str(p.relative_to(ROOT))
        for r in ("store", "extract", "heads")
        for p in (ROOT / r).rglob("*.py")
    }
    assert {f"headstock/{m}" for m in modules | {"__init__.py", "cli.py"}} == {
        name for name in code if name.endswith(".py")
    }


def _rooms() -> set[str]:
    return {"__init__.py", "cli.py", "py.typed", "store", "extract", "heads"}
