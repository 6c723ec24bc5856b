import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import Field

from extproc.config import GatewayConfig, dump, json_schema, load
from extproc.config.fields import Section
from extproc.config.reference import Key, arguments, keys, reference
from scheduler.framework import PluginParams
from scheduler.registry import ALIASES, IN_TREE

ROOT = Path(__file__).parents[4]
DOCS = ROOT / "docs"
DATA = ROOT / "tests" / "data" / "config"


def test_the_committed_reference_is_that_of_the_model() -> None:
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == reference(), "make docs"


def test_the_committed_schema_is_that_of_the_model() -> None:
    committed = (DOCS / "schema" / "infer-gateway.schema.json").read_text(encoding="utf-8")
    assert json.loads(committed) == json_schema(), "make docs"


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize(
    "path", [DATA / "page-scheduler.yaml", DATA / "page-auth.yaml", ROOT / "deploy/kubernetes/configmap.yaml"]
)
def test_configurations_that_load_have_the_form_of_the_schema(path: Path) -> None:
    jsonschema.validate(yaml.safe_load(dump(load(str(path), {}).config)), json_schema())


@pytest.mark.parametrize(
    "wrong",
    [
        {"listener": {"port": 70000}},
        {"listener": {"prot": 80}},
        {"endpoints": {"scrape": {"interval": "fast"}}},
        {"endpoints": {"static": [{"name": "no address"}]}},
        {"logging": {"level": "loud"}},
    ],
)
def test_the_schema_refuses(wrong: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, json_schema())


def found(path: str) -> Key:
    (key,) = [key for key in keys(json_schema(), path.partition(".")[0]) if key.path == path]
    return key


@pytest.mark.parametrize(
    ("path", "form", "limits", "default"),
    [
        ("listener.port", "integer", "0 – 65535", "`8080`"),
        ("listener.maxBodyBytes", "size", "1Ki – 1Gi", "`16Mi`"),
        ("endpoints.scrape.interval", "duration", "20ms – 1h", "`200ms`"),
        ("endpoints.scrape.scheme", "http, https", "", "`http`"),
        ("endpoints.scrape", "section", "", ""),
        ("endpoints.staleAfter", "duration", "100ms – 24h", "–"),
        ("endpoints.static", "list of string or section", "", "`[]`"),
        ("endpoints.static[].address", "string", "", "**required**"),
        ("endpoints.static[].name", "string", "", '`""`'),
        ("endpoints.engines.<name>.kvUsage", "list of string", "", "`[]`"),
        ("endpoints.kubernetes.selector.ports", "list of integer or string", "1 – 8 items", "**required**"),
        ("auth.requiredClaims", "mapping", "", "`{}`"),
        ("auth.identityHeaders", "mapping of string", "", "`{}`"),
        ("auth.issuer", "string", "not empty", "–"),
        ("auth.forwardToken", "boolean", "", "`false`"),
        ("scheduler.plugins.Score.enabled[].weight", "number", "0 – 1000000", "`1`"),
        ("tracing.sampleRatio", "number", "0 – 1", "`0.01`"),
    ],
)
def test_keys(path: str, form: str, limits: str, default: str) -> None:
    key = found(path)
    assert (key.type, key.range, key.default) == (form, limits, default)


def sections(model: type[Section]) -> set[type[Section]]:
    nested = {
        one
        for info in model.model_fields.values()
        for one in _sections_in(info.annotation)
    }  # fmt: skip
    return {model}.union(*map(sections, nested))


def _sections_in(annotation: Any) -> set[type[Section]]:
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return {annotation} if issubclass(annotation, Section) else set()
    return {one for argument in getattr(annotation, "__args__", ()) for one in _sections_in(argument)}


def test_no_key_is_left_out_and_each_has_a_meaning() -> None:
    documented = [key for section in json_schema()["properties"] for key in keys(json_schema(), section)]
    assert all(key.meaning for key in documented)
    names = {key.path.rpartition(".")[2] for key in documented}
    models = sections(GatewayConfig)
    assert len(models) > 15
    for model in models - {GatewayConfig}:
        assert {str(info.alias) for info in model.model_fields.values()} <= names, model


def test_every_plugin_is_there_with_every_argument() -> None:
    text = reference()
    for plugin in IN_TREE:
        section = text.partition(f"### {plugin.name}\n")[2].partition("\n### ")[0]
        assert section
        for key in arguments(plugin.Params):
            assert key.meaning, (plugin.name, key.path)
            assert f"| `{key.path}` | {key.type} |" in section
    for other in ALIASES:
        assert f"also called `{other}`" in text


class Params(PluginParams):
    """Some."""

    needed: int = Field(gt=3)
    #: A thing | of two
    #: lines.
    share: float = Field(0.5, gt=0, le=1, alias="theShare")
    many: tuple[str, ...] = Field((), max_length=3)
    name: str = Field("", max_length=9)
    counted: int = Field(7, ge=0)


def test_arguments() -> None:
    assert list(arguments(Params)) == [
        Key("needed", "integer", "over 3", "**required**", ""),
        Key("theShare", "number", "over 0, to 1", "`0.5`", "A thing | of two lines."),
        Key("many", "list of string", "0 – 3 items", "`[]`", ""),
        Key("name", "string", "0 – 9 characters", '`""`', ""),
        Key("counted", "integer", "0 or more", "`7`", ""),
    ]
