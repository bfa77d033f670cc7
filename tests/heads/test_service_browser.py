"""The service's page in headless Chromium: files chosen or dropped, seen, heard and answered.

``browser`` (conftest.py) skips where chromium or chromedriver is missing.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from headstock.heads import fit

pytest.importorskip("starlette", reason="an extra: pip install 'headstock[serve]'")
pytest.importorskip("uvicorn", reason="an extra: pip install 'headstock[serve]'")

HERE = Path(__file__).parent
NAMES = ["<b>ant</b>", "bee", "cat", "dog"]


@pytest.fixture(scope="module")
def address(browser, tmp_path_factory) -> Iterator[str]:
    spec = spec_from_file_location("of_service_rows", HERE / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    shared: Any = module_from_spec(spec)
    spec.loader.exec_module(shared)
    folder = tmp_path_factory.mktemp("service")
    rows = shared._two_sets(80)
    rows.classes[:] = NAMES
    with shared._make_store(folder / "s.h5", rows) as store:
        fit(store, "logistic", "image+audio").save(folder / "m.headstock")
    process = subprocess.Popen(
        [sys.executable, str(HERE / "serving.py"), str(folder / "m.headstock")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    where = process.stdout.readline().strip()
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(where + "health", timeout=5)
                break
            except urllib.error.URLError:
                time.sleep(0.02)
        yield where
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a picture.png")
    soundfile.write(folder / "sound.wav", 0.3 * np.sin(np.arange(12_000) / 9), 8000)
    (folder / "text.png").write_text("fail not-an-image")
    return {"image": folder / "a picture.png", "audio": folder / "sound.wav",
            "text": folder / "text.png"}  # fmt: skip


def ask(browser, **chosen: Path) -> None:
    for name, file in chosen.items():
        browser.choose(f"#file-{name}", file)
    browser.run("document.getElementById('ask').click()")
    done = "!document.getElementById('ask').disabled"
    told = "(document.querySelector('#bars tr') || !document.getElementById('error').hidden)"
    browser.wait(f"{done} && {told}")


def text(browser, selector: str) -> str:
    return browser.run(f"return document.querySelector('{selector}').textContent")


def test_chosen_files_are_shown_heard_and_answered(browser, address, files) -> None:
    browser.console()
    browser.requests()
    browser.open(address)
    assert "Choose a picture and a sound" in text(browser, "header p")
    browser.choose("#file-image", files["image"])
    browser.choose("#file-audio", files["audio"])
    browser.wait("document.querySelector('img.preview').naturalWidth === 90")
    browser.wait("document.querySelector('audio').duration === 1.5")
    assert text(browser, "[data-field=image] .told").startswith("90 × 60 pixels, ")
    assert text(browser, "[data-field=audio] .told") == "1.5 s, 25 kB"
    browser.run("document.querySelector('audio').play()")
    browser.wait("document.querySelector('audio').currentTime > 0.05")
    browser.run("document.getElementById('ask').focus()")
    browser.run("document.getElementById('form').requestSubmit()")
    browser.wait("document.querySelector('#bars tr')")
    rows = browser.run(
        "return [...document.querySelectorAll('#bars tr')].map(r => [r.cells[0].textContent,"
        "parseFloat(r.cells[2].textContent.replace('< ', '')),"
        "parseFloat(r.querySelector('.bar span').style.width)])"
    )
    assert sorted(name for name, *_ in rows) == sorted(NAMES)
    shares = [share for _, share, _ in rows]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert [round(width, 1) for *_, width in rows] == pytest.approx(shares, abs=0.11)
    assert text(browser, "#said").startswith(rows[0][0])
    assert browser.run("return document.querySelectorAll('main b').length") == 0
    assert browser.console() == []
    assert {u for u in browser.requests() if not u.startswith("blob:")} == {
        address, address + "predict"
    }  # fmt: skip


def test_what_is_wrong_is_said_and_nothing_is_lost(browser, address, files) -> None:
    browser.open(address)
    browser.run("document.getElementById('ask').click()")
    assert text(browser, "#error") == "Choose a picture and a sound first."
    assert browser.run("return document.activeElement.id") == "file-image"
    ask(browser, image=files["text"], audio=files["audio"])
    assert text(browser, "#error") == "image: told to fail"
    assert "no preview" in text(browser, "[data-field=image] .told")
    ask(browser, image=files["image"])
    assert browser.run("return document.getElementById('error').hidden")
    browser.run("document.querySelector('[data-field=audio] .clear').click()")
    assert browser.run("return document.querySelector('audio').hidden")
    browser.run("document.getElementById('ask').click()")
    assert text(browser, "#error") == "Choose a sound first."
    browser.console()  # the answer 415 of above is a message of Chromium's own


def test_files_are_dropped_anywhere_and_find_their_place(browser, address, files) -> None:
    browser.open(address)
    data = {
        name: base64.b64encode(files[name].read_bytes()).decode() for name in ("image", "audio")
    }
    browser.run(
        "const drop = new DataTransfer();"
        "const file = (data, name, type) => new File("
        "[Uint8Array.from(atob(data), c => c.charCodeAt(0))], name, {type});"
        f"drop.items.add(file('{data['audio']}', 's.wav', 'audio/wav'));"
        f"drop.items.add(file('{data['image']}', 'p.png', 'image/png'));"
        "const zone = document.querySelector('[data-field=image]');"
        "for (const kind of ['dragenter', 'dragover', 'drop']) zone.dispatchEvent("
        "new DragEvent(kind, {dataTransfer: drop, bubbles: true, cancelable: true}))"
    )
    named = "return [...document.querySelectorAll('input')].map(i => i.files[0].name)"
    assert browser.run(named) == ["p.png", "s.wav"]
    browser.wait("document.querySelector('[data-field=image] .told').textContent.startsWith('90')")
    assert browser.run("return document.querySelectorAll('.zone.over').length") == 0
    ask(browser)
    assert browser.run("return document.querySelectorAll('#bars tr').length") == 4
    browser.run(
        "const drop = new DataTransfer();"
        "drop.items.add(new File(['x'], 'x.pdf', {type: 'application/pdf'}));"
        "document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: drop, bubbles: true,"
        "cancelable: true}))"
    )
    assert text(browser, "#error") == "x.pdf is no kind of file that this model takes"


def test_a_request_beyond_the_limit_is_not_even_sent(browser, address, files, tmp_path) -> None:
    (tmp_path / "large.wav").write_bytes(bytes(1_200_000))
    browser.open(address)
    browser.requests()
    browser.choose("#file-image", files["image"])
    browser.choose("#file-audio", tmp_path / "large.wav")
    browser.run("document.getElementById('ask').click()")
    assert "are more than the 1 MB of a request" in text(browser, "#error")
    assert address + "predict" not in browser.requests()


def test_everything_has_a_name_and_the_keyboard_reaches_it(browser, address) -> None:
    browser.open(address)
    nodes = browser.tell("Accessibility.getFullAXTree")["nodes"]
    used = [n for n in nodes if n.get("role", {}).get("value") in ("button", "textbox", "Audio")]
    assert len(used) >= 3
    assert all(n.get("name", {}).get("value") for n in used if not n.get("ignored"))
    reached = []
    for _ in range(6):
        for kind in ("rawKeyDown", "keyUp"):
            browser.tell("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab",
                         windowsVirtualKeyCode=9)  # fmt: skip
        reached.append(browser.run("return document.activeElement.id"))
    assert reached[:4] == ["theme", "file-image", "file-audio", "ask"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes_have_contrast_and_a_phone_needs_no_sideways_scroll(
    browser, address, files, theme
) -> None:
    value = [{"name": "prefers-color-scheme", "value": theme}]
    browser.tell("Emulation.setEmulatedMedia", features=value)
    browser.tell(
        "Emulation.setDeviceMetricsOverride",
        width=360, height=740, deviceScaleFactor=1, mobile=True,
    )  # fmt: skip
    browser.open(address)
    ask(browser, image=files["image"], audio=files["audio"])
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    names = [
        "--ink",
        "--soft",
        "--accent",
        "--bad",
        "--edge",
        "--bar",
        "--on",
        "--paper",
        "--panel",
    ]
    colours = browser.run(
        f"return {names}.map(v => {{"
        "const e = document.body.appendChild(document.createElement('i'));"
        "e.style.color = `var(${v})`;"
        "return getComputedStyle(e).color.match(/\\d+/g).map(Number) })"
    )
    light = dict(zip(names, map(_luminance, colours)))
    assert (light["--paper"] > 0.5) == (theme == "light")
    for back in ("--paper", "--panel"):  # WCAG 2.2: 1.4.3 for text, 1.4.11 for edges and bars
        for front, least in (("--ink", 4.5), ("--soft", 4.5), ("--bad", 4.5), ("--edge", 3),
                             ("--bar", 3)):  # fmt: skip
            assert _contrast(light[front], light[back]) >= least, (front, back)
    assert _contrast(light["--on"], light["--accent"]) >= 4.5
    browser.tell("Emulation.clearDeviceMetricsOverride")
    browser.tell("Emulation.setEmulatedMedia", features=[])


def _contrast(a: float, b: float) -> float:
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def _luminance(rgb: list[int]) -> float:
    parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb[:3]]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), parts))
