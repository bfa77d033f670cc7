"""The HTML report in headless Chromium: it opens silently, fetches nothing, sorts, filters, plays.

``browser`` (conftest.py) skips where chromium or chromedriver is missing.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from headstock.heads.report.page import write_report

pytest.importorskip("matplotlib", reason="the report is an extra: pip install 'headstock[report]'")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Any:
    """``make_run`` and the hostile names of test_page.py, which this file shares."""
    spec = spec_from_file_location("test_page_runs", Path(__file__).with_name("test_page.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(browser, made, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_report([made.make_run(folder / "a", ["cat", "dog", "cow"])], folder / "page.html")
    return folder / "page.html"


def test_opens_without_a_message_or_a_request(browser, page):
    browser.requests()
    browser.open(page)
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    browser.wait("[...document.querySelectorAll('.card img')].every(i => i.naturalWidth > 0)")
    assert browser.console() == []
    assert browser.requests() == [page.as_uri()]


def test_hostile_names_run_nothing(browser, made, tmp_path):
    write_report([made.make_run(tmp_path / "a", made.HOSTILE)], tmp_path / "page.html")
    browser.console()
    browser.open(tmp_path / "page.html")
    assert browser.console() == []
    assert browser.run("return document.querySelectorAll('[onerror], [onmouseover]').length") == 0
    assert "<script>alert(1)</script>" in browser.run("return document.body.textContent")
    shown = browser.run(
        "const m = document.querySelector('.map'), out = [];"
        "for (let i = 0; i < 45; i++) {"
        "m.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}));"
        "out.push(document.getElementById('hover').textContent) } return out"
    )
    assert any("\\u202egnp.exe" in words for words in shown)
    assert not [words for words in shown if "\u202e" in words or "\x1b" in words]
    assert browser.console() == []


def test_sorts_both_ways_and_says_so(browser, page):
    browser.open(page)
    cells = "[...document.querySelectorAll('#board tbody tr')].map(r => Number(r.children[5]"
    cells = f"return {cells}.dataset.value))"
    press = "document.querySelectorAll('#board th button')[4].click(); "
    said = "document.querySelectorAll('#board th')[5].getAttribute('aria-sort')"
    up = browser.run(press + cells)
    assert up == sorted(up)
    assert browser.run(f"return {said}") == "ascending"
    down = browser.run(press + cells)
    assert down == up[::-1]
    assert browser.run(f"return {said}") == "descending"


def test_filters_cards_rows_and_map(browser, page):
    browser.open(page)
    kind = "dispatchEvent(new Event('input'))"
    shown = browser.run(
        f"const f = document.getElementById('find'); f.value = 'cow'; f.{kind};"
        "return [...document.querySelectorAll('.card:not([hidden])')].map(c => c.dataset.find)"
    )
    assert shown
    assert all("cow" in words for words in shown)
    assert browser.run("return document.getElementById('found').textContent").startswith(
        f"{len(shown)} of "
    )
    dots = "return document.querySelectorAll('.map g[id*=-class] use:not(.away)').length"
    assert browser.run(dots) == 13
    assert browser.run(f"f = document.getElementById('find'); f.value = ''; f.{kind}; {dots}") == 39
    assert browser.run(f"document.querySelector('.keys button').click(); {dots}") == 26
    left = "return document.querySelectorAll('#board tbody tr:not([hidden])').length"
    box = "const b = document.querySelector('[data-rows=board]'); b.value = 'knn';"
    assert browser.run(f"{left}") == 2
    assert browser.run(f"{box} b.{kind}; {left}") in (0, 1)


def test_plays_one_sound_at_a_time(browser, page):
    browser.open(page)
    pressed = "document.querySelectorAll('.play[aria-pressed=true]')"
    browser.run("document.querySelectorAll('.play')[0].click()")
    browser.wait(f"{pressed}.length === 1")
    browser.run("document.querySelectorAll('.play')[1].click()")
    assert browser.run(f"return [...document.querySelectorAll('.play')].indexOf({pressed}[0])") == 1
    browser.wait(f"{pressed}.length === 0")  # it ends by itself: it was really played
    assert browser.run("return [...document.querySelectorAll('.play')].every(b => !b.title)")


def test_map_answers_keys_and_pointer(browser, page):
    browser.open(page)
    browser.run(
        "const m = document.querySelector('.map'); m.focus();"
        "m.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))"
    )
    assert "cat" in browser.run("return document.querySelector('.told').textContent")
    assert browser.run("return document.querySelector('#hover img').naturalWidth >= 0")
    told = browser.run(
        "const d = document.querySelectorAll('.map g[id*=-class] use')[20];"
        "d.scrollIntoView({block: 'center'}); const b = d.getBoundingClientRect();"
        "d.closest('.map').dispatchEvent(new PointerEvent('pointermove',"
        "{clientX: b.x + b.width / 2, clientY: b.y + b.height / 2}));"
        "return document.querySelector('.told').textContent"
    )
    assert ": " in told
    assert not browser.run("return document.getElementById('hover').hidden")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes_have_contrast_and_a_phone_needs_no_sideways_scroll(browser, page, theme):
    value = [{"name": "prefers-color-scheme", "value": theme}]
    browser.tell("Emulation.setEmulatedMedia", features=value)
    browser.tell(
        "Emulation.setDeviceMetricsOverride",
        width=390,
        height=844,
        deviceScaleFactor=1,
        mobile=True,
    )
    browser.open(page)
    assert browser.run("return document.documentElement.scrollWidth") <= 390
    heights = "return [...document.querySelectorAll('.wide')].filter(w => w.checkVisibility())"
    assert min(browser.run(f"{heights}.map(w => w.offsetHeight)")) > 40
    light = browser.run(
        "return ['--ink', '--soft', '--accent', '--paper'].map(v => {"
        "const e = document.body.appendChild(document.createElement('i'));"
        "e.style.color = `var(${v})`;"
        "return getComputedStyle(e).color.match(/\\d+/g).map(Number) })"
    )
    *fronts, paper = [_luminance(rgb) for rgb in light]
    assert (paper > 0.5) == (theme == "light")
    for front in fronts:  # WCAG 2.2, 1.4.3
        assert (max(front, paper) + 0.05) / (min(front, paper) + 0.05) >= 4.5
    browser.tell("Emulation.clearDeviceMetricsOverride")
    browser.tell("Emulation.setEmulatedMedia", features=[])


def _luminance(rgb: list[int]) -> float:
    parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb[:3]]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), parts))
