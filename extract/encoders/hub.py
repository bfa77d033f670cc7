"""Where pretrained weights come from when no file is given: the cache first, then the network.

A library that finds no network retries for most of a minute; here one short look decides.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import huggingface_hub.constants
import torch

from headstock.store.errors import WeightsError

__all__ = ["WITHOUT_HUB", "cache_only", "cached_url", "reachable", "refuse", "require"]

PATIENCE = 8.0  # seconds
WITHOUT_HUB = "pip install 'headstock[weights]'"


@contextmanager
def cache_only() -> Iterator[None]:
    """Within it the model hub's client reads its cache and never the network."""
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before


def cached_url(url: str) -> bool:
    """Whether torch.hub's cache holds the file at ``url``."""
    return (Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name).is_file()


def require(name: str, url: str | None, offline: bool) -> None:
    """Return when ``url`` (default: the model hub) answers within PATIENCE.

    Raises WeightsError: one line that says how to supply the weights of ``name`` by hand.
    """
    if offline:
        raise refuse(name, "are not in the cache, and --offline forbids the network")
    address = url or huggingface_hub.constants.ENDPOINT
    if not reachable(address):
        host = urlparse(address).hostname or address
        raise refuse(name, f"are not in the cache, and {host} is out of reach")


def reachable(address: str = "") -> bool:
    """Whether ``address`` (default: the model hub) answers within PATIENCE."""
    asked = address or huggingface_hub.constants.ENDPOINT
    answers: list[bool] = []

    def look() -> None:
        request = urllib.request.Request(asked, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=PATIENCE / 2).close()
            answers.append(True)
        except urllib.error.HTTPError:
            answers.append(True)  # somebody is there
        except (OSError, ValueError):
            answers.append(False)

    thread = threading.Thread(target=look, daemon=True)  # a name lookup has no timeout of its own
    thread.start()
    thread.join(PATIENCE)
    return any(answers)


def refuse(name: str, what: str) -> WeightsError:
    """The error that says how to supply weights by hand."""
    fix = (
        "give --weights FILE (.safetensors or .pt), run once with a network to fill the cache, or "
        f"take headstock:efficientnet_lite0 ({WITHOUT_HUB})"
    )
    return WeightsError(name, f"pretrained weights {what}", fix)
