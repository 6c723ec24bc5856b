import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.config import ConfigError, GatewayConfig, Loaded, load, loads
from extproc.config.decode import known_keys
from extproc.config.locate import VARIABLE
from scheduler.config import PluginConfig, SchedulerConfig, ScorerRef
from scheduler.errors import PluginConfigError

DATA = Path(__file__).parents[3] / "data" / "config"
WRONG = sorted((DATA / "wrong").glob("*.yaml"))

PAGE = SchedulerConfig(
    plugin_config=(
        PluginConfig("least-request", {"maxWaitingRequests": 10}),
        PluginConfig("least-latency", {"TTFTTPOTWeightFactor": 0.5}),
        PluginConfig("prefix-cache", {"blockSizeToHash": 64, "maxBlocksToMatch": 128, "maxHashCacheSize": 50000}),
    ),
    filters_enabled=("least-request",),
    filters_disabled=("lora-affinity",),
    scores_enabled=tuple(
        ScorerRef(name, 1.0) for name in ("least-request", "kv-cache", "least-latency", "prefix-cache")
    ),
)


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loads(text, "f")
    return str(caught.value)


def test_the_first_example_of_the_page() -> None:
    loaded = load(str(DATA / "page-scheduler.yaml"), {})
    assert loaded.source == str(DATA / "page-scheduler.yaml")
    assert loaded.config.scheduler.config() == PAGE
    assert loaded.config.auth_policy() is None
    repeated = [warning for warning in loaded.warnings if "repeated with the same value" in warning]
    assert [warning.removeprefix(loaded.source).partition(" this")[0] for warning in repeated] == [
        ":6:1: apiVersion:",
        ":7:1: kind:",
        ":8:1: metadata:",
    ]
    assert any("authentication is off" in warning for warning in loaded.warnings)


def test_the_second_example_of_the_page() -> None:
    config = load(str(DATA / "page-auth.yaml"), {}).config
    assert config.scheduler.config() == PAGE
    policy = config.auth_policy()
    assert policy is not None
    (issuer,) = policy.issuers
    assert (issuer.issuer, issuer.audiences) == ("testing@secure.istio.io", ("matrixinfer.io",))
    assert issuer.jwks_uri == (
        "https://raw.githubusercontent.com/istio/istio/release-1.27/security/tools/jwt/samples/jwks.json"
    )


def test_the_second_example_before_helm() -> None:
    with pytest.raises(ConfigError) as caught:
        load(str(DATA / "page-auth.template.yaml"), {})
    (line,) = str(caught.value).split("\n")
    assert ':4:9: this is an unrendered template: it holds {{ include "matrixinfer.name" . }} and 1 more;' in line


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_each_wrong_one_is_refused_in_these_words(path: Path) -> None:
    """`…` in the expected text stands for words that are another's, the scheduler's."""
    with pytest.raises(ConfigError) as caught:
        loads(path.read_text(), path.name)
    lines = str(caught.value).split("\n")
    expected = path.with_suffix(".txt").read_text().rstrip("\n").split("\n")
    assert len(lines) == len(expected), lines
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(".+".join(map(re.escape, pattern.split("…"))), line), line


def test_there_are_plenty_of_wrong_ones() -> None:
    assert len(WRONG) >= 15
    assert {path.stem for path in WRONG} == {path.stem for path in (DATA / "wrong").glob("*.txt")}


@pytest.mark.parametrize("name", ["page-auth", "page-scheduler"])
def test_positions_in_a_manifest_are_those_of_the_file(name: str, tmp_path: Path) -> None:
    """Each line of the page's examples, spoilt, is the line that the mistake is shown at."""
    lines = (DATA / f"{name}.yaml").read_text().split("\n")
    spoilt = 0
    for number, line in enumerate(lines, 1):
        key = re.match(r"^( +(?:- )?)(name|weight|maxWaitingRequests|enabled|jwksUri|issuer|args)(:.*)$", line)
        if key and number > 10:
            changed = [*lines[: number - 1], f"{key[1]}{key[2]}Wrong{key[3]}", *lines[number:]]
            text = refused("\n".join(changed))
            # An argument's name is the scheduler's to judge; its mistakes are shown at the value.
            column = f"{len(key[1]) + 1}: " if key[2] != "maxWaitingRequests" else ""
            assert f"f:{number}:{column}" in text, text
            assert f"{key[2]}Wrong" in text
            spoilt += 1
    assert spoilt > 15


def test_a_bare_scheduler_section() -> None:
    text = "plugins:\n  Filter:\n    enabled: []\npluginConfig: []\n"
    assert loads(text, "f").config.scheduler.config().filters_enabled == ()
    # Paths are those that the user sees.
    assert (
        refused("plugins: {Filter: {enable: []}}")
        == 'f:1:20: plugins.Filter.enable: unknown key (did you mean "enabled"?)'
    )
    assert refused("plugins: {}\nzzz: 1").startswith("f:2:1: zzz: unknown key (known here: pluginConfig, plugins)")


@pytest.mark.parametrize("key", known_keys(()))
def test_nothing_may_stand_beside_a_bare_scheduler_section(key: str) -> None:
    text = refused(f"plugins: {{}}\n{key}: {{}}")
    assert text.startswith(
        f"f:2:1: {key}: is no key of a bare schedulerConfiguration: move pluginConfig and plugins under"
    )


def test_all_mistakes_of_all_kinds_in_the_order_of_the_file() -> None:
    text = """\
listener: {port: 0x, prot: 1}
admin: {port: .nan}
listener: {}
scheduler:
  plugins: {Score: {enabled: [{name: nonesuch}]}}
auth: {issuer: me}
endpoints: {static: [10.0.0.1:1, 10.0.0.1:1]}
"""
    lines = refused(text).split("\n")
    assert [line.split(" ")[0] for line in lines] == [
        "f:1:18:",
        "f:1:22:",
        "f:2:15:",
        "f:3:1:",
        "f:5:38:",
        "f:6:1:",
        "f:7:34:",
    ]


def test_plugins_that_could_not_be_read_keep_their_places() -> None:
    text = "plugins: {Score: {enabled: [{weight: 1}, {name: kv-cache}, {name: nonesuch}]}}"
    assert [line.partition(": ")[2].partition(":")[0] for line in refused(text).split("\n")] == [
        "plugins.Score.enabled[0].name",
        "plugins.Score.enabled[2].name",
    ]


def test_a_name_in_both_lists() -> None:
    for kind, one in (("Filter", "least-request"), ("Score", "{name: kv-cache}")):
        name = one.strip("{}").rpartition(" ")[2]
        assert "disabled[0]" in refused(f"plugins: {{{kind}: {{enabled: [{one}], disabled: [{name}]}}}}")
    # An alias is the same plugin.
    assert "disabled[0]" in refused("plugins: {Score: {enabled: [{name: kv-cache}], disabled: [gpu-usage]}}")


def test_the_judge_of_plugins_can_be_another() -> None:
    def validate(_config: SchedulerConfig) -> Sequence[PluginConfigError]:
        return [PluginConfigError("not today", ("pluginConfig", 0, "name"))]

    with pytest.raises(ConfigError) as caught:
        loads("scheduler:\n  pluginConfig:\n  - name: x\n", "f", validate=validate)
    assert str(caught.value) == "f:3:11: scheduler.pluginConfig[0].name: not today"


@pytest.mark.parametrize("auth", ["auth: {}", "auth:", "auth: null", "listener: {}", "{}"])
def test_auth_that_is_off_is_a_warning(auth: str) -> None:
    loaded = loads(auth, "f")
    assert loaded.config.auth_policy() is None
    assert any(re.match("f:1:[0-9]+: auth: authentication is off", warning) for warning in loaded.warnings)


def test_auth_that_is_on_is_none() -> None:
    text = "auth: {issuer: a, audiences: [b], jwksUri: https://idp.example.com/}\nendpoints: {static: [10.0.0.1:80]}"
    assert loads(text, "f").warnings == ()


def test_nothing_named_and_nothing_there(tmp_path: Path) -> None:
    loaded = load(None, {}, default_directory=tmp_path / "config")
    assert (loaded.config, loaded.source) == (GatewayConfig(), "defaults")
    assert loaded.warnings[0] == (
        f"no configuration: neither --config nor {VARIABLE} is set and there is no {tmp_path}/config;"
        " defaults are used, and authentication is off: every request is let in"
    )
    assert sum("authentication is off" in warning for warning in loaded.warnings) == 1


@pytest.mark.parametrize("content", ["", "# auth:\n#   jwksUri: x\n", "---\n"])
def test_a_forgotten_configuration_never_opens_the_gateway(tmp_path: Path, content: str) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text(content)
    directory = tmp_path / "directory"
    directory.mkdir()
    attempts: list[tuple[str | None, dict[str, str]]] = [
        (str(empty), {}),
        (None, {VARIABLE: str(empty)}),
        (str(tmp_path / "missing"), {}),
        (None, {VARIABLE: str(tmp_path / "missing")}),
        (str(directory), {}),
        (None, {}),
    ]
    for path, env in attempts:
        with pytest.raises(ConfigError):
            load(path, env, default_directory=directory)


def test_from_a_volume_a_file_and_the_variable(tmp_path: Path) -> None:
    volume = tmp_path / "config"
    volume.mkdir()
    (volume / "..data").symlink_to("..2026")
    (volume / "..2026").mkdir()
    (volume / "..2026" / "schedulerConfiguration").write_text("plugins: {Filter: {enabled: []}}\n")
    (volume / "schedulerConfiguration").symlink_to("..data/schedulerConfiguration")
    shutil.copy(volume / "schedulerConfiguration", tmp_path / "file.yaml")
    loadeds: list[Loaded] = [
        load(str(volume), {}),
        load(None, {}, default_directory=volume),
        load(str(tmp_path / "file.yaml"), {VARIABLE: "/nonexistent"}),
        load(None, {VARIABLE: str(volume / "schedulerConfiguration")}),
    ]
    assert {loaded.config.scheduler.config().filters_enabled for loaded in loadeds} == {()}


NAMES = [*known_keys(()), *known_keys(("auth",)), "pluginConfig", "plugins", "Filter", "Score", "enabled", "disabled", "name", "args", "kind", "data", "apiVersion", "gatewayConfiguration", "x", "[key]", ""]  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["least-request", "ConfigMap", "10.0.0.1:80", "5s", "https://a", "json:loads", ":", "a:b.c"]),
)  # fmt: skip
GARBAGE: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=3)), inner, max_size=4),
    ),
    max_leaves=25,
)


def loads_or_refuses(text: str) -> None:
    try:
        loaded = loads(text, "f")
    except ConfigError as error:
        assert all(line.startswith("f:") and line.isprintable() for line in str(error).split("\n"))
    else:
        assert isinstance(loaded.config, GatewayConfig)
        loaded.config.auth_policy()
        loaded.config.scheduler.config()
        loaded.config.endpoints.dialect()


@given(GARBAGE)
@settings(max_examples=300)
def test_garbage_gives_a_configuration_or_a_config_error(value: object) -> None:
    loads_or_refuses(json.dumps(value))
    loads_or_refuses(json.dumps({"kind": "ConfigMap", "data": {"gatewayConfiguration": json.dumps(value)}}))


@given(st.one_of(st.text(), st.text("[]{}:,-#&*!|>'\"% \n\ta1?@`"), st.binary().map(lambda raw: raw.decode("latin-1"))))
def test_text_gives_a_configuration_or_a_config_error(text: str) -> None:
    loads_or_refuses(text)


@given(number=st.integers(0, 60), insert=st.text(max_size=4), cut=st.integers(0, 3))
def test_a_damaged_manifest_gives_a_configuration_or_a_config_error(number: int, insert: str, cut: int) -> None:
    lines = (DATA / "page-auth.yaml").read_text().split("\n")
    lines[number : number + cut] = [insert]
    loads_or_refuses("\n".join(lines))


@pytest.mark.parametrize(
    ("limit", "document", "heap"),
    [
        ("2147483648", "{}", 1536 << 20),
        ("2147483648", "envoy: {maxHeap: 512Mi}", 512 << 20),
        ("1000", "{}", 128 << 20),
        ("", "{}", 1 << 30),
        ("2Gi", "{}", 1 << 30),
    ],
)
def test_envoys_memory_follows_from_its_container(limit: str, document: str, heap: int, tmp_path: Path) -> None:
    path = tmp_path / "configuration.yaml"
    path.write_text(document)
    environment = {"INFER_GATEWAY_ENVOY_MEMORY": limit}
    assert load(str(path), environment).config.envoy.heap == heap
