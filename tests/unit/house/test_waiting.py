"""No test depends on how fast the machine is: each waits by `support.eventually`, and only there does anything sleep."""

import ast
import re
from collections.abc import Iterator

from support.house import ROOT, files

HERE = "tests/support/eventually.py"
TESTS = [path for path in files(".py") if path.startswith("tests/") and path != HERE]
#: A source of data that is paced by design, or a pause that is the subject. File and text of the call, with the reason.
ALLOWED: dict[tuple[str, str], str] = {
    ("tests/unit/extproc/sharing/redis/test_carrier.py", "asyncio.sleep(0.002)"): "events that are to be sent apart",
}
#: Tests that patch constants still: their limits are to become parameters.
PATCHING = {
    "tests/unit/extproc/sharing/redis/test_carrier.py",
    "tests/unit/extproc/sharing/test_group.py",
    "tests/unit/extproc/sharing/test_journal.py",
    "tests/unit/extproc/sharing/test_message.py",
}


def calls(path: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node


def found(path: str, wrong: set[str]) -> Iterator[str]:
    for call in calls(path):
        text = ast.unparse(call)
        if text.split("(")[0] in wrong and not text.endswith("(0)") and (path, text) not in ALLOWED:
            yield f"{path}:{call.lineno}: {text}"


def test_nothing_sleeps() -> None:
    """`asyncio.sleep(0)` lets other tasks go on, and takes no time."""
    wrong = [one for path in TESTS for one in found(path, {"time.sleep", "asyncio.sleep", "sleep"})]
    assert not wrong, "await eventually(condition) instead:\n" + "\n".join(wrong)


def test_every_limit_on_time_is_the_one() -> None:
    wrong = []
    for path in TESTS:
        for call in calls(path):
            name = ast.unparse(call.func)
            limits = (
                call.args[:1] if name == "asyncio.timeout" else call.args[1:2] if name == "asyncio.wait_for" else []
            )
            if any(isinstance(one, ast.Constant) and one.value for one in limits):
                wrong.append(f"{path}:{call.lineno}: {ast.unparse(call)}")
    assert not wrong, "PATIENCE of support.eventually instead:\n" + "\n".join(wrong)


def test_there_is_one_profile_of_hypothesis() -> None:
    with_deadline = re.compile(r"\bdeadline *= *(None|\d)")
    wrong = [path for path in TESTS if path != "tests/conftest.py" and with_deadline.search((ROOT / path).read_text())]
    assert not [path for path in wrong if "hypothesis" in (ROOT / path).read_text()], (
        "tests/conftest.py has the profile"
    )


def test_no_constant_is_patched() -> None:
    """A limit that a test wants smaller is a parameter, with the constant as its default."""
    constant = re.compile(
        r"""monkeypatch\.setattr\(\s*[\w."']+,\s*["'][A-Z][A-Z_0-9]+["']|setattr\(\s*["'][\w.]+\.[A-Z_0-9]+["']"""
    )
    wrong = [
        f"{path}: {match.group()}"
        for path in TESTS
        if path not in PATCHING
        for match in constant.finditer((ROOT / path).read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)
