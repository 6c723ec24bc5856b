"""`make unit` starts no Envoy: whoever has none can still test."""

import re

from support.house import ROOT, files

FOLDERS = ("tests/unit/", "tests/property/", "tests/conformance/")
#: What starts one. Its descriptors may be read out of the binary.
STARTS = re.compile(
    r"^from (?:extproc\.demo\.(?:stack|run)|support\.(?:gateway|foreign_envoy|picker)) import (.*)$", re.MULTILINE
)
ALLOWED = {
    "tests/conformance/test_endpoint_picker_protocol.py": "a sidecar alone, asked by a client of ext_proc",
    "tests/conformance/test_go_client.py": "likewise, by a client in Go",
}


def test_what_needs_no_envoy_starts_none() -> None:
    wrong = [
        f"{path}: {match.group()}"
        for path in files(".py")
        if path.startswith(FOLDERS) and path not in ALLOWED
        for match in STARTS.finditer((ROOT / path).read_text(encoding="utf-8"))
        if re.search(r"envoy_binary|Stack|gateway|foreign|picker|run", match.group(1))
    ]
    assert not wrong, "these belong to tests/integration"
