"""Tests mirror the source: `a/b.py` is tested by `tests/unit/a/test_b.py`. Whatever is not so stands here, with the reason."""

import ast
from pathlib import Path

import pytest
from support.house import ROOT, files, modules

#: Modules that one suite, or a test of the whole, tests: the file that does.
TESTED_BY = {
    "extproc/__main__.py": "tests/integration/test_commands.py",
    "extproc/admin/explain.py": "tests/integration/test_commands.py",
    "extproc/admin/pages.py": "tests/unit/extproc/admin/test_server.py",
    "extproc/convert/endpoint_picker.py": "tests/unit/extproc/convert/test_source.py",
    "extproc/convert/kthena.py": "tests/unit/extproc/convert/test_source.py",
    "extproc/convert/result.py": "tests/unit/extproc/convert/test_source.py",
    "extproc/demo/process.py": "tests/integration/test_commands.py",
    "extproc/demo/redis_server.py": "tests/integration/test_commands.py",
    "extproc/demo/run.py": "tests/integration/test_commands.py",
    "extproc/demo/stack.py": "tests/integration/test_lifecycle.py",
    "extproc/demo/tokens.py": "tests/integration/test_commands.py",
    "extproc/demo/workload.py": "tests/integration/test_commands.py",
    "extproc/discovery/dns/answer.py": "tests/unit/extproc/discovery/dns/test_resolver.py",
    "extproc/discovery/kubernetes/objects.py": "tests/unit/extproc/discovery/kubernetes/test_recorded.py",
    "extproc/gateway.py": "tests/integration/test_lifecycle.py",
    "extproc/main.py": "tests/integration/test_commands.py",
    "extproc/process/signals.py": "tests/integration/test_lifecycle.py",
    "extproc/routing/choice.py": "tests/unit/extproc/request/test_pipeline_routes.py",
    "extproc/routing/pool.py": "tests/unit/extproc/request/test_pipeline.py",
    "extproc/server.py": "tests/integration/test_lifecycle.py",
    "extproc/sharing/share.py": "tests/integration/test_workers.py",
    "extproc/telemetry/access_log.py": "tests/unit/extproc/request/test_flight.py",
    "extproc/telemetry/collectors.py": "tests/unit/extproc/telemetry/test_metrics.py",
    "extproc/transport/__init__.py": "tests/unit/extproc/transport/test_transports.py",
    "extproc/transport/grpc_credentials.py": "tests/unit/extproc/transport/test_tls.py",
    "extproc/transport/grpcio.py": "tests/unit/extproc/transport/test_transports.py",
    "extproc/transport/http2/call.py": "tests/unit/extproc/transport/test_transports.py",
    "extproc/transport/http2/server.py": "tests/unit/extproc/transport/test_transports.py",
    "extproc/transport/http2/side_calls.py": "tests/unit/extproc/transport/test_transports.py",
    "extproc/transport/http2/stream.py": "tests/unit/extproc/transport/http2/test_connection.py",
    "extproc/workers/control.py": "tests/integration/test_workers.py",
    "extproc/transport/listener.py": "tests/unit/extproc/transport/test_transports.py",
    "extproc/transport/log_entries.py": "tests/conformance/test_bytes_of_strangers.py",
    "extproc/wire/relaxed.py": "tests/conformance/test_bytes_of_strangers.py",
    "modelsim/__main__.py": "tests/integration/test_commands.py",
    "modelsim/answer.py": "tests/unit/modelsim/api/test_api.py",
    "modelsim/api/base.py": "tests/unit/modelsim/api/test_api.py",
    "modelsim/api/chat.py": "tests/unit/modelsim/api/test_api.py",
    "modelsim/api/completions.py": "tests/unit/modelsim/api/test_api.py",
    "modelsim/api/embeddings.py": "tests/unit/modelsim/api/test_api.py",
    "modelsim/api/messages.py": "tests/unit/modelsim/api/test_api.py",
    "modelsim/api/responses.py": "tests/unit/modelsim/api/test_api.py",
    "modelsim/replica.py": "tests/unit/modelsim/test_service.py",
}
#: Modules and packages of declarations: types, constants, sections of the configuration. What uses them has the tests.
DECLARATIONS = {
    "extproc/auth/verdicts.py",
    "extproc/config/sections/",  # tests/unit/extproc/config/test_loader.py and test_reference.py go through them all
    "extproc/protocol/actions.py",
    "extproc/protocol/events.py",
    "extproc/protocol/replies.py",
    "extproc/telemetry/finished.py",
    "extproc/transport/contract.py",
    "extproc/transport/services.py",
    "modelsim/errors.py",
    "modelsim/events.py",
}
#: Rooms that are being built. Empty at a release.
UNDER_CONSTRUCTION: tuple[str, ...] = (
    "extproc/sharing/",
    "extproc/config/sharing_checks.py",
    "extproc/simulation/",
    "extproc/tenancy/",
)
#: Test files of no one module.
OF_MANY = {
    "tests/unit/extproc/discovery/kubernetes/test_recorded.py",  # recorded answers of a real API server
    "tests/unit/extproc/transport/test_transports.py",  # one suite over all transports
    "tests/unit/modelsim/api/test_api.py",  # one suite over all APIs
    "tests/unit/scheduler/test_plugins_document.py",  # docs/plugins.md
}
#: Lines of a package's `__init__` below which it only names what is in it.
SMALL = 25


def mirror_of(module: str) -> str:
    path = Path(module)
    return f"tests/unit/{path.parent}/test_{path.stem.strip('_')}.py"


def declares_only(module: str) -> bool:
    return any(module == one or (one.endswith("/") and module.startswith(one)) for one in DECLARATIONS)


def test_every_module_has_its_test() -> None:
    known = set(files(".py"))
    missing = [
        f"{module}: write {mirror_of(module)}, or name the file that tests it in TESTED_BY here"
        for module in modules()
        if mirror_of(module) not in known and module not in TESTED_BY and not declares_only(module)
        if not module.startswith(UNDER_CONSTRUCTION)
        if not (module.endswith("__init__.py") and len((ROOT / module).read_text().splitlines()) < SMALL)
    ]
    assert not missing, "\n".join(missing)


def test_every_unit_test_has_its_module() -> None:
    """Its name may go on where a module has several: test_flight_prefill.py is of flight.py."""
    known = set(modules())
    strays = []
    for test in files(".py"):
        path = Path(test)
        if not test.startswith(tuple(f"tests/unit/{package}/" for package in ("extproc", "scheduler", "modelsim"))):
            continue
        words = path.stem.removeprefix("test_").split("_")
        folder = path.parent.relative_to("tests/unit")
        names = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
        if (
            path.name.startswith("test_")
            and test not in OF_MANY
            and not known & {f"{folder}/{name}.py" for name in names}
            and not known & {f"{folder}/{name}/__init__.py" for name in names}
            and test != mirror_of(f"{folder}/__init__.py")
        ):
            strays.append(f"{test}: no module of that name; rename the test, or list it in OF_MANY here")
    assert not strays, "\n".join(strays)


@pytest.mark.parametrize("listed", [*TESTED_BY, *sorted(DECLARATIONS)])
def test_what_is_listed_is_there_and_needed(listed: str) -> None:
    assert (ROOT / listed).exists(), "take it out of the list"
    if listed in TESTED_BY:
        assert (ROOT / TESTED_BY[listed]).is_file()
        assert not (ROOT / mirror_of(listed)).exists(), "take it out of TESTED_BY: it has a test of its name"


def test_no_test_file_is_empty() -> None:
    def has_tests(path: str) -> bool:
        return any(
            (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"))
            or (isinstance(node, ast.Assign | ast.ClassDef) and "Test" in ast.unparse(node).partition("\n")[0])
            for node in ast.walk(ast.parse((ROOT / path).read_text()))
        )

    tests = [path for path in files(".py") if path.startswith("tests/") and Path(path).name.startswith("test_")]
    assert len(tests) > 100
    assert [path for path in tests if not has_tests(path)] == []
