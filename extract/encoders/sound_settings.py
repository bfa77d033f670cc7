"""What a file says of a sound network: each field with its kind and bound, and nothing else.

Two files do: the description beside a network (``FILE.json``), and a recipe. Letters: t frames or
samples in time, m values a frame, w windows, d features.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from headstock.extract.decode.audio import MAX_SECONDS, RATES
from headstock.extract.encoders.described import (
    PORT,
    Check,
    check_fields,
    either,
    known_fields,
    list_of,
    matching,
    nothing,
    number_in,
    one_of,
    truth,
    whole_in,
)
from headstock.extract.encoders.spectra import MelSettings
from headstock.store.errors import OptionError

__all__ = [
    "SETTINGS",
    "FrontNetwork",
    "LogMel",
    "SoundSettings",
    "checked",
    "settings_from",
    "stated",
]

FILE = matching(re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}\.(?:onnx|tflite)"))
SHADE = number_in(-1e6, 1e6)
LONGEST = 1 << 24
"""Samples or frames in one window: 17 minutes at 16 kHz."""
AXES = ("bt", "b1t", "bt1", "t", "btm", "bmt", "b1tm", "b1mt", "btm1", "bmt1")
POOLS = ("mean", "std", "max", "first")
LOGS = ("none", "ln", "log10", "db")


@dataclass(frozen=True)
class LogMel(MelSettings):
    """A front end: the mel spectrogram by librosa's names, then ``max(x, floor) + offset``, its
    logarithm, all below the loudest by more than ``span`` raised to that, times ``multiply`` plus
    ``add``. ``center``: frames stand around their samples, with zeros before and after."""

    n_fft: int = 400
    hop_length: int = 160
    n_mels: int = 64
    center: bool = True
    floor: float = 1e-10
    offset: float = 0.0
    log: str = "db"
    span: float | None = None
    multiply: float = 1.0
    add: float = 0.0


@dataclass(frozen=True)
class FrontNetwork:
    """A front end: another network, samples (1, t) in and frames (..., t, m) out, of which frame i
    comes from the ``frame`` samples from ``i * hop`` on; then as in ``LogMel`` from ``span`` on."""

    network: str
    frame: int
    hop: int
    input: str | None = None
    output: str | None = None
    span: float | None = None
    multiply: float = 1.0
    add: float = 0.0


@dataclass(frozen=True)
class SoundSettings:
    """``rate`` in Hz, mono; samples from -1 to 1 times ``scale``; ``front``: what comes before the
    network, None for samples as they are. ``window`` and ``hop``: frames (samples, without a front
    end) of a window and from one to the next; without ``window`` the whole sound is one, of at
    most ten minutes. What remains behind the last window: ``rest`` ``end`` adds one that ends with
    the sound, ``drop`` leaves it out; a sound shorter than a window is filled with zeros.

    ``axes``: of the network's input; b windows, t time, m values of a frame, 1. ``features``: which
    axis of its output, ``last`` or ``first`` after b; all others are time. ``pool``: what is taken
    over time, one after the other. ``duration``: seconds read from the start, None for all.
    """

    rate: int
    axes: str
    scale: float = 1.0
    front: LogMel | FrontNetwork | None = None
    window: int | None = None
    hop: int | None = None
    rest: str = "end"
    input: str | None = None
    output: str | None = None
    features: str = "last"
    pool: tuple[str, ...] = ("mean",)
    duration: float | None = None


COMMON: Mapping[str, Check] = {
    "span": either(nothing, number_in(0, 1e6)),
    "multiply": SHADE,
    "add": SHADE,
}
MEL: Mapping[str, Check] = {
    "n_fft": whole_in(2, 1 << 16),
    "hop_length": whole_in(1, 1 << 20),
    "win_length": either(nothing, whole_in(1, 1 << 16)),
    "window": one_of("hann", "hamming", "blackman", "boxcar", "bartlett"),
    "n_mels": whole_in(1, 1024),
    "fmin": number_in(0, RATES[1]),
    "fmax": either(nothing, number_in(1, RATES[1])),
    "htk": truth,
    "mel_norm": either(nothing, one_of("slaney")),
    "power": number_in(0.1, 4),
    "center": truth,
    "floor": number_in(0, 1e6),
    "offset": number_in(0, 1e6),
    "log": one_of(*LOGS),
    **COMMON,
}
NETWORK: Mapping[str, Check] = {
    "network": FILE,
    "frame": whole_in(1, 1 << 20),
    "hop": whole_in(1, 1 << 20),
    "input": PORT,
    "output": PORT,
    **COMMON,
}
SETTINGS: Mapping[str, Check] = {
    "rate": whole_in(*RATES),
    "axes": one_of(*AXES),
    "scale": number_in(1e-6, 1 << 31),
    "front": either(nothing, lambda value: isinstance(value, Mapping)),
    "window": either(nothing, whole_in(1, LONGEST)),
    "hop": either(nothing, whole_in(1, LONGEST)),
    "rest": one_of("end", "drop"),
    "input": PORT,
    "output": PORT,
    "features": one_of("last", "first"),
    "pool": list_of(1, len(POOLS), one_of(*POOLS)),
    "duration": either(nothing, number_in(1e-3, MAX_SECONDS)),
}


def settings_from(where: object, said: Mapping[str, Any]) -> SoundSettings:
    """``SoundSettings`` of the fields that a file at ``where`` states.

    Raises UnsafeInput for a field that is none or not of its kind, OptionError for one that is
    missing or that another forbids.
    """
    own = _checked(where, said, SETTINGS, "", ("rate", "axes"))
    if isinstance(own.get("pool"), list):
        own["pool"] = tuple(own["pool"])
    front = own.get("front")
    if front is not None and "network" in front:
        needed = ("network", "frame", "hop")
        own["front"] = FrontNetwork(**_checked(where, front, NETWORK, "front.", needed))
    elif front is not None:
        own["front"] = LogMel(**_checked(where, front, MEL, "front.", ()))
    settings = SoundSettings(**own)
    _consistent(where, settings)
    return settings


def checked(where: object, said: Mapping[str, Any]) -> dict[str, Any]:
    """``said`` as it is, when each is a field of its kind. Raises UnsafeInput."""
    return _checked(where, said, SETTINGS, "", ())


def _checked(
    where: object,
    said: Mapping[str, Any],
    kinds: Mapping[str, Check],
    prefix: str,
    needed: tuple[str, ...],
) -> dict[str, Any]:
    known_fields(where, said, kinds, prefix, "a sound network")
    for name in needed:
        if name not in said:
            raise OptionError(where, f"{prefix}{name} is not stated", "the network's own")
    check_fields(where, said, kinds, prefix)
    return dict(said)


def _consistent(where: object, s: SoundSettings) -> None:
    mel, frames = s.front if isinstance(s.front, LogMel) else None, s.front is not None
    for ok, what, fix in (
        (frames == ("m" in s.axes), f"axes {s.axes} with{'' if frames else 'out'} a front end",
         "btm and its like with one, bt and its like without"),
        (s.hop is None or s.window is not None, "hop without window", "both, or neither"),
        (s.axes != "t" or s.features == "last", "axes t with features first", "features last"),
        (len(set(s.pool)) == len(s.pool), f"pool {'+'.join(s.pool)}", "each one once"),
        (mel is None or (mel.win_length or 1) <= mel.n_fft, "front.win_length above n_fft",
         "1 to n_fft"),
        (mel is None or mel.n_mels * mel.n_fft <= 1 << 24, "n_mels times n_fft above 2^24", "less"),
        (mel is None or mel.fmin < (mel.fmax or s.rate / 2), "front.fmin not below fmax",
         "below fmax"),
        (mel is None or mel.log == "none" or mel.floor + mel.offset > 0,
         "a logarithm of nothing", "a floor or an offset above 0"),
    ):  # fmt: skip
        if not ok:
            raise OptionError(where, f"{what} has no meaning", fix)


def stated(settings: SoundSettings) -> dict[str, Any]:
    """The fields of ``settings`` for a recipe: the inverse of ``settings_from``, defaults too."""

    def plain(value: Any) -> Any:
        if isinstance(value, LogMel | FrontNetwork):
            return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        return list(value) if isinstance(value, tuple) else value

    return {f.name: plain(getattr(settings, f.name)) for f in fields(settings)}
