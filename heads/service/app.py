"""The ASGI application: ``POST /predict``, ``GET /model``, ``GET /health`` and a page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from headstock import __version__
from headstock.heads.bundle.bundle import Bundle
from headstock.heads.bundle.predictions import answered
from headstock.heads.rows.labelled import parts_of
from headstock.heads.service.arrivals import Arrivals
from headstock.heads.service.limits import Limits
from headstock.heads.service.page import page_of
from headstock.heads.service.upload import Refused, arrived, read_files
from headstock.heads.specs import NUMBER
from headstock.store.errors import HeadstockError, ItemError

__all__ = ["Encode", "make_app"]

Encode = Callable[[Mapping[str, bytes]], Mapping[str, np.ndarray]]
"""{modality: bytes} -> {set: (1, d) float32}; raises ItemError. Called from several threads."""

STATUS = {"not-an-image": 415, "not-audio": 415, "timeout": 504, "too-large": 413}
"""HTTP status of an ItemError's code; every other one is 422: understood, and not usable."""

SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def make_app(
    bundle: Bundle,
    encode: Encode,
    limits: Limits | None = None,
    *,
    title: str = "model",
    hosts: Sequence[str] = ("*",),
    started: Callable[[], None] = lambda: None,
) -> Starlette:
    """The application that answers with ``bundle`` about what ``encode`` makes of uploads.

    ``title`` is shown on the page. ``hosts``: names that requests may be addressed to, against
    pages elsewhere that point their own name here. ``started`` is called once requests come in.
    """
    service = _Service(bundle, encode, limits or Limits(), title)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        started()
        yield
        service.pool.shutdown(wait=True, cancel_futures=True)

    return Starlette(
        routes=[
            Route("/", service.page),
            Route("/model", service.model),
            Route("/health", service.health),
            Route("/predict", service.predict, methods=["POST"]),
        ],
        middleware=[
            Middleware(Strict),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts)),
        ],
        exception_handlers={
            Refused: _refused,  # type: ignore[dict-item]
            HTTPException: _http,  # type: ignore[dict-item]
            Exception: _bug,
        },
        lifespan=lifespan,
    )


class _Service:
    def __init__(self, bundle: Bundle, encode: Encode, limits: Limits, title: str) -> None:
        self._bundle, self._encode, self._limits = bundle, encode, limits
        self.fields = tuple(dict.fromkeys(r.modality for r in bundle.recipes.values()))
        self.pool = ThreadPoolExecutor(limits.at_once, "headstock-serve")
        self._inside = 0
        self._arrivals = Arrivals(4 * self._places, self._places * limits.bytes)
        self._about: dict[str, Any] = {
            "title": title,
            "target": bundle.target,
            "classes": [str(c) for c in bundle.classes],
            "inputs": list(self.fields),
            "enough": self._enough(),
            "limits": limits.to_json(),
            "version": __version__,
        }
        self._page, policy = page_of(self._about)
        self._page_headers = {**SAFE, "Content-Security-Policy": policy}

    async def page(self, request: Request) -> Response:
        return HTMLResponse(self._page, headers=self._page_headers)

    async def model(self, request: Request) -> Response:
        return JSONResponse(self._about, headers=SAFE)

    async def health(self, request: Request) -> Response:
        told = {"status": "ok", "inside": self._inside, "room": self._room()}
        return JSONResponse(told, headers=SAFE)

    @property
    def _places(self) -> int:
        return self._limits.at_once + self._limits.waiting

    def _room(self) -> int:
        return self._places - self._inside

    async def predict(self, request: Request) -> Response:
        if _foreign(request):
            raise Refused(403, "foreign-page", "a page of another site may not ask here")
        begin = time.perf_counter()
        # a place is taken by who has sent all: who opens requests and is silent takes none
        async with arrived(request, self._limits, self.fields, self._arrivals) as form:
            if self._room() <= 0:
                raise Refused(503, "busy", "too many requests at once; try again in a second")
            self._inside += 1
            try:
                files = await read_files(form, self.fields)
                self._check(files)
                task = asyncio.get_running_loop().run_in_executor(self.pool, self._answer, files)
            except BaseException:
                self._inside -= 1
                raise
        # the place is free when the work has ended, not when the sender lost patience
        task.add_done_callback(self._leave)
        try:
            proba = await asyncio.wait_for(asyncio.shield(task), self._limits.seconds)
        except TimeoutError:
            what = f"no answer within {self._limits.seconds:g} seconds"
            raise Refused(504, "timeout", what) from None
        except ItemError as error:
            status = STATUS.get(error.code, 422)
            raise Refused(status, error.code, f"{error.where}: {error.what}", error.where) from None
        said = self._said(proba, time.perf_counter() - begin)
        return JSONResponse({**said, "from": sorted(files)}, headers=SAFE)

    def _enough(self) -> list[list[str]]:
        """What a request must have: one of these lists of fields, the fullest first."""
        modality = {name: recipe.modality for name, recipe in self._bundle.recipes.items()}
        names = list(self._bundle.patterns) or ["+".join(modality)]
        wanted = [{modality[part] for part in parts_of(name)} for name in names]
        return [[f for f in self.fields if f in one] for one in wanted]

    def _check(self, files: Mapping[str, bytes]) -> None:
        enough = self._about["enough"]
        if not any(set(one) <= files.keys() for one in enough):
            wanted = ", or ".join(" and ".join(one) for one in enough)
            lacking = [f for f in enough[0] if f not in files]
            what = f"this model needs {wanted}; no {' and no '.join(lacking)} came"
            raise Refused(422, "missing", what, lacking[0])

    def _leave(self, task: Any) -> None:
        self._inside -= 1
        if not task.cancelled():
            task.exception()  # looked at, so that a late failure is not reported as forgotten

    def _answer(self, files: Mapping[str, bytes]) -> np.ndarray:
        """(k,) probabilities, or (1,) a number."""
        return self._bundle.predict_arrays(dict(self._encode(files)))[0]

    def _set(self, proba: np.ndarray, classes: Sequence[str]) -> dict[str, list[str]]:
        """The classes that are likely enough, of a model with a coverage and one pattern."""
        if len(self._bundle.least) != 1:
            return {}
        least = np.array(next(iter(self._bundle.least.values())))
        order = np.argsort(-proba, kind="stable")
        return {"set": [classes[code] for code in order if proba[code] >= least[code]]}

    def _said(self, proba: np.ndarray, seconds: float) -> dict[str, Any]:
        classes = self._about["classes"]
        if self._bundle.target == NUMBER:
            said = float(proba[0])
            half = next(iter(self._bundle.halves.values()), None)
            # of several patterns the service does not say which answered
            ends = {"low": said - half, "high": said + half} if half is not None else {}
            ends = ends if len(self._bundle.halves) == 1 else {}
            return {"prediction": said, **ends, "seconds": round(seconds, 4)}
        best = int(answered(proba[None], self._bundle.costs)[0])
        return {
            "prediction": classes[best],
            "confidence": float(proba[best]),
            **self._set(proba, classes),
            "probabilities": dict(zip(classes, map(float, proba))),
            "seconds": round(seconds, 4),
        }


def _foreign(request: Request) -> bool:
    """Whether a page of another site sent it. Browsers say so, by ``Sec-Fetch-Site`` where the
    address counts as trustworthy and by ``Origin`` everywhere; other programs say neither."""
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    return origin is not None and origin.lower() not in (
        f"http://{host.lower()}", f"https://{host.lower()}"
    )  # fmt: skip


class Strict:
    """Requests that a proxy before us may have read otherwise, and taken for two, get no answer but
    a refusal and the end of their line."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        names = [name for name, _ in scope.get("headers", ())]
        twice = any(names.count(name) > 1 for name in (b"host", b"content-length", b"origin"))
        if b"transfer-encoding" in names and b"content-length" in names:
            twice = True
        if scope["type"] != "http" or not twice:
            await self.app(scope, receive, send)
            return
        told = {"code": "ambiguous", "message": "headers that contradict each other", "field": None}
        headers = {**SAFE, "Connection": "close"}
        await JSONResponse({"error": told}, 400, headers)(scope, receive, send)


async def _refused(request: Request, error: Refused) -> Response:
    told = {"code": error.code, "message": error.message, "field": error.field}
    headers = dict(SAFE)
    if error.status == 503:
        headers["Retry-After"] = "1"
    if (
        error.status in (408, 413) or error.code == "busy"
    ):  # what is left of the body will not be read
        headers["Connection"] = "close"
    return JSONResponse({"error": told}, error.status, headers)


async def _http(request: Request, error: HTTPException) -> Response:
    told = {"code": "http", "message": str(error.detail), "field": None}
    return JSONResponse({"error": told}, error.status_code, {**SAFE, **(error.headers or {})})


async def _bug(request: Request, error: Exception) -> Response:
    """Nothing of a failure's inside leaves the machine, but for errors made to be read."""
    what = str(error) if isinstance(error, HeadstockError) else "the service failed at this request"
    told = {"code": "failed", "message": what, "field": None}
    return JSONResponse({"error": told}, 500, SAFE)
