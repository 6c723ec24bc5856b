"""The page without a browser: what it is made of, and that it reads what the sidecar says. tests/browser runs it."""

import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import aiohttp
import pytest
from support.busy import Busy

from extproc.admin.page import headers, html

PAGE = html().decode()
#: Elements without an end.
VOID = {"meta", "link", "br", "img", "input"}


class Parsed(HTMLParser):
    """Elements, ids and the text of script and style."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(PAGE)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


PARSED = Parsed()
(SCRIPT,) = PARSED.texts["script"]
(STYLE,) = PARSED.texts["style"]


def test_it_is_well_formed() -> None:
    assert PARSED.open == []
    assert PARSED.tags.count("script") == PARSED.tags.count("style") == 1
    ids = [value for _, name, value in PARSED.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_nothing_is_fetched_from_elsewhere() -> None:
    links = [(tag, value) for tag, name, value in PARSED.attributes if name in ("src", "href", "action", "srcset")]
    assert links == [
        ("link", "data:,"), ("a", "metrics"), ("a", "debug/endpoints"), ("a", "debug/decisions"),
    ]  # fmt: skip
    assert re.findall(r"https?://[^\"]+", PAGE) == ["http://www.w3.org/2000/svg"]
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    assert re.findall(r"fetch\((.*?)[,)]", SCRIPT) == ['"debug/summary"']


def test_no_text_becomes_html_or_code() -> None:
    for way in (
        "innerHTML", "outerHTML", "insertAdjacent", "document.write", "createContextualFragment", "DOMParser", "srcdoc",
        "eval(", "Function(", "setTimeout", "import(", "javascript:", "setHTML",
    ):  # fmt: skip
        assert way not in SCRIPT
    assert not [name for _, name, _ in PARSED.attributes if name.startswith("on") or name == "style"]


def test_only_its_own_script_and_style_run() -> None:
    policy = dict(one.strip().split(" ", 1) for one in headers(html())["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    for name, text in (("script-src", SCRIPT), ("style-src", STYLE)):
        assert policy[name] == f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
    assert policy["connect-src"] == "'self'"
    assert "unsafe" not in str(policy)


def test_what_the_script_looks_for_is_in_the_page() -> None:
    ids = {value for _, name, value in PARSED.attributes if name == "id"}
    used = set(re.findall(r"""\b(?:at|table)\("([\w-]+)\"""", SCRIPT))
    assert used
    assert used <= ids


def fields(variable: str) -> set[str]:
    """What the script reads of a thing; names of things are what they are called everywhere in it."""
    return set(re.findall(rf"\b{variable}\.(\w+)", SCRIPT))


@pytest.fixture
async def summary() -> Any:
    gateway = Busy()
    gateway.request()
    gateway.metrics.refused(503, "no_ready_pod")
    return await gateway.summary()


def parts(summary: Any) -> Iterator[tuple[str, Any]]:
    yield "summary", summary
    yield "before", summary
    yield "pod", summary["pods"][0]
    yield "decision", summary["decisions"][0]
    yield "candidate", summary["decisions"][0]["candidates"][0]


async def test_what_the_script_reads_is_what_the_sidecar_says(summary: Any) -> None:
    for variable, part in parts(summary):
        assert fields(variable), variable
        assert fields(variable) <= set(part), variable
    rows = {"more"} | set(summary["requests"][0]) | set(summary["refusals"][0])
    assert fields("row") <= rows
    assert set(re.findall(r'mean\("(\w+)"\)', SCRIPT)) <= set(summary["means"])
    assert set(re.findall(r'tokens\("(\w+)"\)', SCRIPT)) == set(summary["tokens"])


async def test_it_is_served() -> None:
    async with (
        Busy().serving() as address,
        aiohttp.ClientSession() as session,
        session.get(f"http://{address}/") as response,
    ):
        assert response.status == 200
        assert await response.read() == html()
        assert response.content_type == "text/html"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "sha256-" in response.headers["content-security-policy"]
