import re

import pytest

from extproc.envoy.paths import ADMIN_PATHS, refused

_BY_DEFAULT = refused(None)["url_path"]["path"]["safe_regex"]["regex"]


@pytest.mark.parametrize("path", ADMIN_PATHS)
def test_by_default_administration_is_refused(path: str) -> None:
    for shape in (path, path.upper(), f"{path}/", f"{path}/x/y", f"{path};x", f"{path}%20"):
        assert re.fullmatch(_BY_DEFAULT, shape)
    for shape in (f"{path}x", f"/x{path}", f"{path}-x"):
        assert not re.fullmatch(_BY_DEFAULT, shape) or shape in ADMIN_PATHS


def test_no_model_api_is_refused() -> None:
    for path in ("/v1/chat/completions", "/v1/models", "/v1/models/metrics", "/generate", "/health", "/v1/load", "/"):
        assert not re.fullmatch(_BY_DEFAULT, path)


def test_with_a_list_all_others_are_refused() -> None:
    assert refused(["/v1/*", "/health"]) == {
        "not_rule": {
            "or_rules": {
                "rules": [{"url_path": {"path": {"prefix": "/v1/"}}}, {"url_path": {"path": {"exact": "/health"}}}]
            }
        }
    }
