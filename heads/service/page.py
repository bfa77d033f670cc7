"""The page to try the service with: one HTML file that fetches nothing but its own answers."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from headstock.heads.report.page.markup import Safe, h, json_block
from headstock.heads.specs import NUMBER

__all__ = ["page_of"]

WORDS = {
    "image": ("Picture", "image/*", "a picture"),
    "audio": ("Sound", "audio/*", "a sound"),
}


def page_of(about: Mapping[str, Any]) -> tuple[str, str]:
    """The page for a service that says ``about`` of itself, and its content security policy."""
    here = files("headstock.heads.service")
    style = here.joinpath("page.css").read_text("utf-8")
    script = here.joinpath("page.js").read_text("utf-8")
    policy = (
        "default-src 'none'; img-src blob: data:; media-src blob:; connect-src 'self'; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
    words = [" and ".join(WORDS[name][2] for name in one) for one in about["enough"]]
    which = f"which of its {len(about['classes']):,} classes it is"
    lead = (
        f"Choose {', or '.join(words)}, and the model says "
        f"{'its number' if about['target'] == NUMBER else which}."
    )
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("title", f"headstock: {about['title']}"),
        h("link", rel="icon", href="data:,"),
        Safe(f"<style>{style}</style>"),
    )
    body = h(
        "body",
        h(
            "header",
            h("h1", about["title"]),
            h("button", "Light or dark", type="button", id="theme"),
            h("p", lead),
        ),
        h("main", _form(about), _answer()),
        h("footer", *_facts(about)),
        h("noscript", "This page needs its script; without it send the files with curl."),
        json_block("about", dict(about)),
        Safe(f"<script>{script}</script>"),
    )
    return f"<!DOCTYPE html>\n{h('html', head, body, lang='en')}\n", policy


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _form(about: Mapping[str, Any]) -> Safe:
    return h(
        "form",
        h("div", *(_zone(name) for name in about["inputs"]), class_="zones"),
        h(
            "p",
            h("button", "Predict", type="submit", id="ask", class_="main"),
            h("output", id="state", role="status"),
            class_="tools",
        ),
        h("p", id="error", role="alert", hidden=True),
        id="form",
    )


def _zone(name: str) -> Safe:
    title, accept, _ = WORDS[name]
    preview = (
        h("img", alt="", hidden=True, class_="preview")
        if name == "image"
        else h("audio", controls=True, hidden=True, class_="preview")
    )
    return h(
        "fieldset",
        h("legend", title),
        h("p", f"Drop {WORDS[name][2]} here, or choose one:", class_="says"),
        h("label", h("span", f"{title} file ", class_="hidden"),
          h("input", type="file", accept=accept, name=name, id=f"file-{name}")),
        h("div", preview, class_="shown"),
        h("div", h("p", class_="told says"),
          h("button", f"Remove the {title.lower()}", type="button", class_="clear", hidden=True),
          class_="about"),
        data_field=name,
        class_="zone",
    )  # fmt: skip


def _answer() -> Safe:
    return h(
        "section",
        h("h2", "Answer"),
        h("p", "Nothing was asked yet.", id="said", role="status"),
        h(
            "table",
            h("caption", "Probability of each class, the most likely first", class_="hidden"),
            h("colgroup", h("col", class_="name"), h("col"), h("col", class_="share")),
            h("thead", h("tr", h("th", "Class", scope="col"), h("th", "", aria_hidden="true"),
              h("th", "Probability", scope="col")), class_="hidden"),
            h("tbody", id="bars"),
            hidden=True,
        ),
        h("button", type="button", id="more", hidden=True),
        aria_label="Answer",
    )  # fmt: skip


def _facts(about: Mapping[str, Any]) -> list[Safe]:
    limits = about["limits"]
    return [
        h("p", f"Files stay on the machine that runs this, and are gone once answered. "
          f"A request may have {limits['megabytes']:g} MB and take {limits['seconds']:g} seconds."),
        h("p", "The same from a terminal: ", h("code", id="curl")),
        h("p", "headstock ", about["version"]),
    ]  # fmt: skip
