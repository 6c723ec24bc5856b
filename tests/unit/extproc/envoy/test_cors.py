import re

from extproc.config.sections.listener import CorsConfig
from extproc.envoy.cors import policy


def allows(origins: tuple[str, ...], origin: str) -> bool:
    matchers = policy(CorsConfig(origins=origins))["allow_origin_string_match"]
    return any(
        matcher["exact"] == origin if "exact" in matcher else re.fullmatch(matcher["safe_regex"]["regex"], origin)
        for matcher in matchers
    )


def test_origins() -> None:
    listed = ("https://a.test", "https://*.b.test")
    for origin in ("https://a.test", "https://x.b.test", "https://x.y.b.test", "https://X.B.TEST"):
        assert allows(listed, origin)
    for origin in ("http://a.test", "https://a.test:8443", "https://b.test", "https://x.b.testy", "https://x-b.test",
                   "https://evil.test/.b.test", "null", ""):  # fmt: skip
        assert not allows(listed, origin)
    assert allows(("*",), "null")


def test_nothing_is_allowed_without_a_section() -> None:
    assert policy(None).keys() == {"@type"}
