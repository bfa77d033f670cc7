"""One request's files, read under limits. Names and types that the sender gives are not used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from headstock.heads.service.arrivals import Arrival, Arrivals, Crowded
from headstock.heads.service.limits import Limits
from headstock.store.errors import one_line

__all__ = ["Refused", "arrived", "read_files"]

MULTIPART = "multipart/form-data"


class Refused(Exception):
    """A request that gets no prediction: HTTP status, a fixed word, and a sentence."""

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        self.status, self.code, self.message, self.field = (
            status,
            code,
            one_line(message, 400),
            field,
        )
        super().__init__(status, code, self.message)


@asynccontextmanager
async def arrived(
    request: Request, limits: Limits, fields: Sequence[str], arrivals: Arrivals
) -> AsyncIterator[FormData]:
    """The request's form once all of it is there, its files on disk where they are large.

    Raises Refused: 408 too slow, 413 too large, 415 no form, 400 a broken one, 503 no room.
    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != MULTIPART:
        raise Refused(415, "no-form", f"send the files as {MULTIPART}, in {_listed(fields)}")
    told = request.headers.get("content-length", "0")
    if not told.isdecimal() or len(told) > 15 or int(told) > limits.bytes:
        raise _too_large(limits)
    form = None
    try:
        async with arrivals.one(limits.upload) as arrival:
            counted = Request(request.scope, _counted(request.receive, limits, arrivals, arrival))
            form = await counted.form(max_files=len(fields) + 1, max_fields=1)
    except TimeoutError:
        what = f"the upload took longer than {limits.upload:g} seconds, or others wanted its place"
        raise Refused(408, "upload-too-slow", what) from None
    except Crowded:
        raise Refused(503, "busy", "too many uploads at once; try again in a second") from None
    except ClientDisconnect:
        raise Refused(400, "gone", "the sender went away") from None
    except HTTPException as error:
        raise Refused(400, "broken-form", str(error.detail)) from None
    try:
        yield form
    finally:
        await form.close()


async def read_files(form: FormData, fields: Sequence[str]) -> dict[str, bytes]:
    """{field: bytes} of a form's file parts; an empty one counts as none.

    Raises Refused (422) for other parts than ``fields``, or one given twice.
    """
    return await _parts(form.multi_items(), fields)


def _counted(receive: Any, limits: Limits, arrivals: Arrivals, arrival: Arrival) -> Any:
    """``receive`` that stops at the limit, whatever length the sender declared."""

    async def counting() -> Message:
        message = await receive()
        arrivals.took(arrival, len(message.get("body", b"")))
        if arrival.bytes > limits.bytes:
            raise _too_large(limits)
        return message

    return counting


def _too_large(limits: Limits) -> Refused:
    what = f"a request may have {limits.megabytes:g} MB"
    return Refused(413, "too-large", what)


async def _parts(items: Sequence[tuple[str, Any]], fields: Sequence[str]) -> dict[str, bytes]:
    out: dict[str, bytes] = {}
    for name, part in items:
        if name not in fields:
            raise Refused(422, "unknown-field", f"no field {name!r}; send {_listed(fields)}")
        if not isinstance(part, UploadFile):
            raise Refused(422, "no-file", f"{name} is text, not a file", name)
        if name in out:
            raise Refused(422, "twice", f"{name} is given twice", name)
        out[name] = await part.read()
    return {name: data for name, data in out.items() if data}


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)
