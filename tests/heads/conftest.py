"""Small stores and arrays for the tests of heads."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstock.heads.rows.labelled import Rows
from headstock.store import OK, Batch, FeatureStore, Items, Recipe

WIDTHS = {"image": 20, "audio": 6}


def _two_sets(n: int, k: int = 4, seed: int = 0, strength: float = 0.9) -> Rows:
    """n rows, k classes, two sets of which neither is enough alone."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n) % k)
    X = {}
    for name, width in WIDTHS.items():
        centres = np.random.default_rng(len(name)).normal(size=(k, width))
        X[name] = (rng.normal(size=(n, width)) + strength * centres[codes]).astype(np.float32)
    ids = np.array([f"r{i:04d}" for i in range(n)], dtype=object)
    return Rows(ids, X, codes, np.array(["ant", "bee", "cat", "dog"][:k], dtype=object))


@pytest.fixture(scope="session")
def two_sets() -> Callable[..., Rows]:
    return _two_sets


@pytest.fixture
def rows() -> Rows:
    return _two_sets(160)


def _make_store(path: Path, rows: Rows, *, split=None, group=None, label=None) -> FeatureStore:
    """A store that holds ``rows``; no vector where they lack one."""
    labels = [str(c) for c in rows.classes[rows.codes]] if label is None else label
    items = Items.of(list(rows.ids), label=labels, split=split, extra=group)
    store = FeatureStore.open(path, "a")
    store.register(items)
    n = len(rows)
    for name, X in rows.X.items():
        store.declare(name, Recipe(name, {"width": X.shape[1]}), X.shape[1])
        digest = np.zeros((n, 32), dtype=np.uint8)
        digest[:, :4] = np.arange(n, dtype="<u4").view(np.uint8).reshape(n, 4)
        stat = np.full((n, 2), -1, dtype=np.int64)
        status = np.full(n, OK, dtype=np.uint8)
        has = np.flatnonzero(rows.having([name]))
        batch = Batch(list(rows.ids[has]), digest[has], stat[has], X[has], status[has], [])
        store.commit(name, batch)
    return store


@pytest.fixture(scope="session")
def make_store() -> Callable[..., FeatureStore]:
    return _make_store


@pytest.fixture
def store(tmp_path: Path, rows: Rows):
    with _make_store(tmp_path / "features.h5", rows) as made:
        yield made


QUIET = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--window-size=1280,900", "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip


class Browser:
    """One Chromium window behind a chromedriver, driven through the driver's own HTTP interface
    (W3C WebDriver), so that no Python package is needed."""

    def __init__(self, port: int, profile: Path) -> None:
        self.base = f"http://127.0.0.1:{port}"
        options = {"args": [*QUIET, f"--user-data-dir={profile}"]}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        made = self._ask("/session", {"capabilities": {"alwaysMatch": wanted}})
        self.base += f"/session/{made['sessionId']}"

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self.base + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, place: Path | str) -> None:
        self._ask("/url", {"url": place if isinstance(place, str) else place.as_uri()})

    def choose(self, selector: str, file: Path) -> None:
        """Choose ``file`` in the file input that the CSS ``selector`` finds."""
        found = self._ask("/element", {"using": "css selector", "value": selector})
        self._ask(f"/element/{next(iter(found.values()))}/value", {"text": str(file)})

    def picture(self, path: Path) -> None:
        """Write what the window shows as a PNG."""
        with urllib.request.urlopen(self.base + "/screenshot", timeout=60) as answer:
            path.write_bytes(base64.b64decode(json.load(answer)["value"]))

    def run(self, code: str) -> Any:
        return self._ask("/execute/sync", {"script": code, "args": []})

    def wait(self, code: str, seconds: float = 20) -> None:
        """Until the JavaScript expression ``code`` holds."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({code})"):
            assert time.monotonic() < end, f"never true: {code}"
            time.sleep(0.05)

    def console(self) -> list[str]:
        return [line["message"] for line in self._ask("/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Addresses asked for since the last look, pictures and sounds inside the page left out."""
        lines = [json.loads(e["message"])["message"] for e in self._ask_log()]
        sent = [m["params"] for m in lines if m["method"] == "Network.requestWillBeSent"]
        urls = [p["request"]["url"] for p in sent]
        return [u for u in urls if not u.startswith("data:")]

    def _ask_log(self) -> list[dict[str, Any]]:
        return self._ask("/se/log", {"type": "performance"})

    def tell(self, command: str, **parameters: Any) -> Any:
        return self._ask("/goog/cdp/execute", {"cmd": command, "params": parameters})


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if not (shutil.which("chromedriver") and (shutil.which("chromium") or shutil.which("chrome"))):
        pytest.skip("chromium and chromedriver are not on PATH")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(
        ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.05)
        one = Browser(port, tmp_path_factory.mktemp("profile"))
        yield one
        urllib.request.urlopen(urllib.request.Request(one.base, method="DELETE"), timeout=60)
    finally:
        driver.terminate()
        driver.wait(20)
