"""The prediction service: what it answers, what it refuses and with which code, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstock.heads import Bundle, fit
from headstock.heads.bundle.members import Pattern
from headstock.heads.service import Limits, serve
from headstock.store.errors import OptionError

httpx = pytest.importorskip("httpx", reason="the tests of the service need httpx")
pytest.importorskip("starlette", reason="an extra: pip install 'headstock[serve]'")
pytest.importorskip("python_multipart", reason="an extra: pip install 'headstock[serve]'")

HERE = Path(__file__).parent


def _beside(name: str) -> Any:
    spec = spec_from_file_location(f"of_service_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


serving = _beside("serving")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    shared = _beside("conftest")
    folder = tmp_path_factory.mktemp("service")
    with shared._make_store(folder / "s.h5", shared._two_sets(80)) as store:
        fit(store, "logistic", "image+audio").save(folder / "m.headstock")
    return folder / "m.headstock"


@pytest.fixture
def bundle(model) -> Bundle:
    return Bundle.load(model)


def asked(app, *requests: dict[str, Any], method: str = "POST", path: str = "/predict") -> list:
    """The answers to requests that are sent at once."""

    async def run() -> list:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await asyncio.gather(
                *(client.request(method, path, **request) for request in requests)
            )

    return asyncio.run(run())


def made(bundle: Bundle, encode: Any = serving.encode, **limits: Any):
    from headstock.heads.service import make_app

    return make_app(bundle, encode, Limits(**limits), hosts=["localhost"])


def files(image: bytes = b"a picture", audio: bytes = b"a sound") -> dict[str, Any]:
    return {"files": {"image": ("x.png", image), "audio": ("x.wav", audio)}}


def test_answers_with_the_models_probabilities(bundle) -> None:
    (answer,) = asked(made(bundle), files())
    said = answer.json()
    X = {n: serving.vector_of(d, serving.WIDTHS[n]) for n, d in
         (("image", b"a picture"), ("audio", b"a sound"))}  # fmt: skip
    proba = bundle.predict_arrays(X)[0]
    assert answer.status_code == 200
    assert list(said["probabilities"]) == ["ant", "bee", "cat", "dog"]
    np.testing.assert_allclose(list(said["probabilities"].values()), proba)
    assert said["prediction"] == bundle.classes[proba.argmax()]
    assert said["confidence"] == proba.max()
    assert said["from"] == ["audio", "image"]


BROKEN = b"--x\r\nContent-Disposition: form-data; name=\r\n"


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"json": {}}, 415, "no-form"),
        ({"content": b"x"}, 415, "no-form"),
        ({"content": b"no boundary", "headers": {"content-type": "multipart/form-data"}}, 400,
         "broken-form"),
        ({"content": BROKEN + b"\0" * 9, "headers": {
            "content-type": "multipart/form-data; boundary=x"}}, 400, "broken-form"),
        ({"files": {"image": b"a"}}, 422, "missing"),
        ({"files": {"image": b"a", "audio": b""}}, 422, "missing"),
        ({"files": {"video": b"a"}}, 422, "unknown-field"),
        ({"files": [("image", b"a"), ("image", b"b")]}, 422, "twice"),
        ({"data": {"image": "text"}, "files": {"audio": b"b"}}, 422, "no-file"),
        ({**files(), "headers": {"content-length": "9" * 12}}, 413, "too-large"),
        ({**files(), "headers": {"content-length": "-1"}}, 413, "too-large"),
        (files(b"x" * 300_000), 413, "too-large"),
        (files(b"fail not-an-image"), 415, "not-an-image"),
        (files(audio=b"fail not-audio"), 415, "not-audio"),
        (files(b"fail truncated"), 422, "truncated"),
        (files(b"fail bomb"), 422, "bomb"),
        (files(audio=b"fail timeout"), 504, "timeout"),
        ({**files(), "headers": {"sec-fetch-site": "cross-site"}}, 403, "foreign-page"),
        ({**files(), "headers": {"origin": "http://evil.example"}}, 403, "foreign-page"),
        ({**files(), "headers": {"origin": "null"}}, 403, "foreign-page"),
        ({**files(), "headers": {"origin": "http://localhost:81"}}, 403, "foreign-page"),
        ({**files(), "headers": {"origin": "http://localhost.evil.example"}}, 403, "foreign-page"),
        ({**files(), "headers": {"origin": "file://"}}, 403, "foreign-page"),
        ({**files(), "headers": {"origin": "http://evil.example", "sec-fetch-site": "none"}}, 403,
         "foreign-page"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_its_code(bundle, request_, status, code) -> None:
    app = made(bundle, megabytes=0.2)
    refused, fine, told = (
        asked(app, request_)[0], asked(app, files())[0],
        asked(app, {}, method="GET", path="/health")[0],
    )  # fmt: skip
    assert refused.status_code == status, refused.text
    assert refused.json()["error"]["code"] == code
    assert "\n" not in refused.json()["error"]["message"]
    assert fine.status_code == 200
    assert told.json() == {"status": "ok", "inside": 0, "room": 10}


def test_a_stream_that_declares_no_length_is_cut_at_the_limit(bundle) -> None:
    sent = 0

    async def endless():
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        while sent < 50_000_000:
            sent += 10_000
            yield b"x" * 10_000

    headers = {"content-type": "multipart/form-data; boundary=x"}
    (answer,) = asked(made(bundle, megabytes=0.2), {"content": endless(), "headers": headers})
    assert answer.status_code == 413
    assert sent < 1_000_000


def test_a_failure_inside_says_nothing_of_the_inside(bundle) -> None:
    (answer,) = asked(made(bundle), files(b"bug"))
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_too_many_at_once_are_sent_away_and_the_others_answered(bundle) -> None:
    app = made(bundle, at_once=1, waiting=2)
    answers = asked(app, *(files(b"slow 0.3") for _ in range(6)))
    codes = sorted(a.status_code for a in answers)
    assert codes == [200, 200, 200, 503, 503, 503]
    away = next(a for a in answers if a.status_code == 503)
    assert away.headers["retry-after"] == "1"
    assert away.json()["error"]["code"] == "busy"
    assert asked(app, files())[0].status_code == 200


def test_an_answer_that_takes_too_long_is_not_waited_for_but_keeps_its_place(bundle) -> None:
    go = threading.Event()

    def held(given: Any) -> Any:
        assert go.wait(60), "nobody was answered while this one computed"
        return serving.encode(given)

    app = made(bundle, held, seconds=0.2, at_once=1, waiting=0)

    async def run() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.post("/predict", **files())).status_code == 504
            assert (await client.post("/predict", **files())).status_code == 503
            go.set()
            for _ in range(1000):  # until its place is free
                if (answer := await client.post("/predict", **files())).status_code == 200:
                    break
                assert answer.status_code == 503
                await asyncio.sleep(0.02)
            assert answer.status_code == 200

    asyncio.run(run())


def test_names_of_files_are_not_used(bundle, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"image": ("../../etc/\x1b[31mpasswd", b"a picture", "text/html"),
             "audio": ("../../etc/passwd", b"a sound", "image/png")}  # fmt: skip
    odd, plain = (asked(made(bundle), one)[0].json() for one in ({"files": names}, files()))
    assert odd["probabilities"] == plain["probabilities"]
    assert not list(tmp_path.iterdir())


def test_a_model_that_may_lack_a_set_answers_what_came(bundle, two_sets) -> None:
    rows = two_sets(80)
    head = bundle.members[0].fitted
    from headstock.heads.bundle.members import Member
    from headstock.heads.kinds.linear import logistic

    alone = Member("logistic", "audio", logistic(0).fit(rows.X["audio"], rows.codes))
    bundle.members.append(alone)
    bundle.patterns = {"image+audio": Pattern([0]), "audio": Pattern([1])}
    app = made(bundle)
    (about,) = asked(app, {}, method="GET", path="/model")
    assert about.json()["enough"] == [["image", "audio"], ["audio"]]
    (said,) = asked(app, {"files": {"audio": b"a sound"}})
    assert said.json()["from"] == ["audio"]
    X = {"audio": serving.vector_of(b"a sound", 6)}
    np.testing.assert_allclose(
        list(said.json()["probabilities"].values()), alone.fitted.predict_proba(X["audio"])[0]
    )
    assert asked(app, {"files": {"image": b"a"}})[0].status_code == 422
    assert head is not alone.fitted


def test_addressed_by_another_name_or_way(bundle) -> None:
    app = made(bundle)
    assert asked(app, {"headers": {"host": "evil.example"}}, method="GET", path="/")[0].is_error
    assert asked(app, {}, method="GET", path="/predict")[0].status_code == 405
    assert asked(app, {}, method="GET", path="/etc/passwd")[0].status_code == 404
    (about,) = asked(app, {}, method="GET", path="/model")
    assert about.json()["classes"] == ["ant", "bee", "cat", "dog"]


HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "</script>", "\u202egnp"]


class Page(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_runs_its_own_script_only_and_fetches_nothing_elsewhere(bundle) -> None:
    from headstock.heads.service import make_app

    bundle.classes = np.array(HOSTILE, dtype=object)
    app = make_app(bundle, serving.encode, title=HOSTILE[1], hosts=["localhost"])
    (answer,) = asked(app, {}, method="GET", path="/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy
    page = Page(answer.text)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert not [a for _, a in page.tags for key in a if key.startswith("on")]
    assert not [
        a for _, a in page.tags if (a.get("src") or a.get("href") or "data:")[:5] != "data:"
    ]
    assert "<script>alert" not in answer.text
    assert "\u202e" not in answer.text


@pytest.mark.parametrize("bad", [{"seconds": 0}, {"megabytes": -1}, {"at_once": 0}])
def test_limits_without_meaning_are_refused(bad) -> None:
    with pytest.raises(OptionError, match="is no limit"):
        Limits(**bad)


def test_an_address_that_cannot_be_had_is_one_line(bundle) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OptionError, match="choose another --host or --port"):
            serve(bundle, serving.encode, port=taken.getsockname()[1])
    with pytest.raises(OptionError, match="choose another"):
        serve(bundle, serving.encode, host="203.0.113.1", port=0)


def test_without_the_extra_it_is_one_line(bundle, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(OptionError, match=r"pip install 'headstock\[serve\]'"):
        serve(bundle, serving.encode)


@pytest.mark.parametrize("origin", ["http://localhost", "https://localhost", "HTTP://LOCALHOST"])
def test_the_services_own_page_is_answered(bundle, origin) -> None:
    assert asked(made(bundle), {**files(), "headers": {"origin": origin}})[0].status_code == 200


@pytest.fixture
def server(model, request) -> Iterator[tuple[subprocess.Popen, str]]:
    """A process that serves, and its address; a parameter says how long uploads may take."""
    more = [str(request.param)] if hasattr(request, "param") else []
    process = subprocess.Popen(
        [sys.executable, str(HERE / "serving.py"), str(model), *more],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(address + "health", timeout=5)
                break
            except urllib.error.URLError:
                time.sleep(0.02)
        yield process, address
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _raw(address: str, *parts: bytes, pause: float = 0.0) -> bytes:
    """What a server says to ``parts``, sent one after the other."""
    host, port = address.removeprefix("http://").strip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        for part in parts:
            line.sendall(part)
            time.sleep(pause)
        said = b""
        while more := line.recv(65536):
            said += more
    return said


HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n"
)


@pytest.mark.parametrize("head", [b"", b"GET /health HTTP/1.1\r\nHost: loc"])
def test_who_does_not_ask_does_not_keep_others_out(server, head: bytes) -> None:
    """More lines than the service has room for, each silent before its request is whole; one that
    sends a letter now and then is no better."""
    _, address = server
    host, port = address.removeprefix("http://").strip("/").split(":")
    lines = [socket.create_connection((host, int(port)), timeout=20) for _ in range(40)]
    try:
        for line in lines:
            line.sendall(head)
        begin = time.monotonic()
        while time.monotonic() - begin < 2:
            with contextlib.suppress(OSError):
                lines[0].sendall(b"a" if head else b"")
            time.sleep(0.2)
        assert lines[0].recv(100) == b""
        assert httpx.get(address + "health").status_code == 200
        keeps = httpx.Client()
        assert [keeps.get(address + "health").status_code for _ in range(3)] == [200] * 3
        keeps.close()
    finally:
        for line in lines:
            line.close()


FORM = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\na\r\n--x--\r\n'


AMBIGUOUS = [
    b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % len(FORM),
    b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    b"Content-Length: 4\r\nContent-Length: %d\r\n" % len(FORM),
    b"Content-Length: %d\r\nTransfer-Encoding: identity, chunked\r\n" % len(FORM),
    b"Content-Length: %d\r\nHost: evil.example\r\n" % len(FORM),
]


def test_a_request_that_can_be_read_in_two_ways_ends_its_line(server) -> None:
    """What follows it on the line, which another reader takes for a request, is never read."""
    _, address = server
    for start in (b"POST /predict", b"GET /health"):
        for headers in AMBIGUOUS:
            head = start + b" HTTP/1.1\r\nHost: localhost\r\n" + headers
            head += b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            rest = b"0\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
            said = _raw(address, head + rest)
            assert said.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501")), headers
            assert said.count(b"HTTP/1.1 ") == 1, headers


@pytest.mark.parametrize("server", [60.0], indirect=True)
def test_two_hundred_that_began_to_ask_do_not_keep_others_out(server) -> None:
    """Each has sent a head and is silent in its body; they may take a minute, and nobody waits
    for that."""
    _, address = server
    host, port = address.removeprefix("http://").strip("/").split(":")
    begun = [b"", b"--x\r\n", b"--x\r\nContent-Disposition: form-data"]
    lines = []

    def silent() -> int:
        """How many lines are open and have no answer."""
        count = 0
        for line in lines:
            line.setblocking(False)
            try:
                line.recv(1)
            except BlockingIOError:
                count += 1
            except OSError:
                pass
        return count

    try:
        for number in range(200):
            line = socket.create_connection((host, int(port)), timeout=20)
            line.sendall(HEAD % 1000 + begun[number % 3])
            lines.append(line)
        for _ in range(20):  # until the youngest of them is no longer young
            answer = httpx.post(address + "predict", **files(), timeout=20)
            if answer.status_code == 200:
                break
            assert answer.json()["error"]["code"] == "busy"
            time.sleep(0.1)
        assert answer.status_code == 200
        assert 0 < silent() <= 28  # some are waited for still: it was not their time that ended
    finally:
        for line in lines:
            line.close()


def test_a_served_process_holds_its_limits_and_ends_when_told(server) -> None:
    process, address = server
    assert address.startswith("http://127.0.0.1:")
    assert httpx.post(address + "predict", **files()).status_code == 200
    assert httpx.post(address + "predict", **files(b"x" * 1_100_000)).status_code == 413
    begin = time.monotonic()
    assert b"408" in _raw(address, HEAD % 1000, b"--x\r\n").split(b"\r\n")[0]  # and then silence
    assert time.monotonic() - begin > 0.9  # it had its time
    assert _raw(address, b"\x16\x03\x01 nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
    said: list[Any] = []
    asking = threading.Thread(
        target=lambda: said.append(httpx.post(address + "predict", **files(b"slow 1.5")))
    )
    asking.start()
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    asking.join(20)
    assert said[0].status_code == 200  # what was under way is answered
    assert process.wait(20) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)


@pytest.mark.slow
def test_the_command_serves_real_files_and_leaves_nothing(tmp_path, shared_data) -> None:
    from click.testing import CliRunner

    from headstock.cli import cli

    table = shared_data / "animals8_av" / "index.csv"
    store, model, said = (tmp_path / n for n in ("f.h5", "m.headstock", "p.csv"))
    for words in (
        [
            "extract",
            table,
            "-o",
            store,
            "--image",
            "headstock:resnext_nano",
            "--audio",
            "mfcc",
            "-q",
        ],
        ["fit", store, "--head", "logistic", "--on", "image+audio", "-o", model, "-q"],
        ["predict", model, store, "-o", said],
    ):
        done = CliRunner().invoke(cli, [str(w) for w in words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    rows = [line.split(",") for line in said.read_text().splitlines()]
    lines = [line.split(",") for line in table.read_text().splitlines()[1:9]]
    spare = tmp_path / "tmp"
    spare.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "headstock.cli", "serve", str(model), "--port", "0"],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(spare)},
    )  # fmt: skip
    assert process.stderr is not None
    address = next(w for w in process.stderr.readline().split() if w.startswith("http"))
    try:
        for row, line in zip(rows[1:], lines):
            paths = [table.parent / name for name in line[1:3]]
            parts = dict(zip(("image", "audio"), (p.read_bytes() for p in paths)))
            answer = httpx.post(address + "predict", files=parts, timeout=60).json()
            assert answer["prediction"] == row[1]
            wanted = dict(zip((h.removeprefix("p_") for h in rows[0][3:]), map(float, row[3:])))
            for name, p in answer["probabilities"].items():
                assert p == pytest.approx(wanted[name], abs=1e-4)
        bad = httpx.post(address + "predict", files={**parts, "image": b"hello"}, timeout=60)
        assert (bad.status_code, bad.json()["error"]["code"]) == (415, "not-an-image")
        assert len(list(spare.iterdir())) == 1
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.stderr.close()
    assert not list(spare.iterdir())
    time.sleep(0.5)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert json.loads(json.dumps(answer)) == answer
