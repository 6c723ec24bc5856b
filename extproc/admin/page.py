"""The page for people at the admin port: one static file, and headers that let it do nothing else."""

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files


def html() -> bytes:
    """The page."""
    return files("extproc.admin").joinpath("page.html").read_bytes()


def headers(page: bytes) -> Mapping[str, str]:
    """What goes with it. Nothing but the page's own script and style runs, and it may ask only this server."""
    policy = {
        "default-src": "'none'",
        "script-src": _hashes(page, b"script"),
        "style-src": _hashes(page, b"style"),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }


def _hashes(page: bytes, tag: bytes) -> str:
    blocks = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(block).digest()).decode()}'" for block in blocks)
