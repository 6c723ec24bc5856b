import pytest

from extproc.config.document import BrokenDocument, Document
from extproc.config.manifest import KEYS, choose, listing, read_document

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gateway}\ndata:\n"


def refused(text: str) -> str:
    with pytest.raises(BrokenDocument) as caught:
        read_document(text)
    return caught.value.problem.text("f")


def test_a_plain_document() -> None:
    assert read_document("listener: {port: 1}").data == {"listener": {"port": 1}}
    assert read_document("---\nlistener: {port: 1}\n---\n").data == {"listener": {"port": 1}}


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_a_manifest(key: str) -> None:
    document = read_document(f"{HEAD}  {key}: |-\n    listener: {{port: 1}}\n  unrelated.txt: hello\n")
    assert document.data == {"listener": {"port": 1}}


def place(document: Document) -> tuple[int, int, int]:
    return document.position_of(("listener", "port"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("|-\n    listener:\n      port: 1\n", (7, 13, 0)),
        ("|\n    listener:\n      port: 1\n", (7, 13, 0)),
        ("|+\n\n\n    # a comment\n    listener:\n      port: 1\n\n", (10, 13, 0)),
        ("|2\n    listener:\n      port: 1\n", (7, 13, 0)),
        ("\n    |-\n    listener:\n      port: 1\n", (8, 13, 0)),
        ("|- # why not\n    listener:\n      port: 1\n", (7, 13, 0)),
        # Texts without lines of their own in the file are shown at their start.
        ('"listener:\\n  port: 1"\n', (5, 25, 2)),
        ("'listener: {port: 1}'\n", (5, 25, 1)),
        (">-\n    listener: {port: 1}\n", (5, 25, 1)),
    ],
)
def test_positions_point_into_the_manifest(value: str, expected: tuple[int, int, int]) -> None:
    text = f"{HEAD}  gatewayConfiguration: {value}"
    assert place(read_document(text)) == expected
    assert place(read_document(text.replace("\n", "\r\n"))) == expected


def test_positions_behind_other_documents() -> None:
    text = f"kind: Service\napiVersion: v1\n---\n{HEAD}  gatewayConfiguration: |\n    listener:\n      port: 1\n"
    assert place(read_document(text)) == (10, 13, 0)


def test_syntax_errors_point_into_the_manifest() -> None:
    text = f"{HEAD}  gatewayConfiguration: |\n    listener: {{port: 1\n    admin: x\n"
    assert refused(text).startswith("f:7:10: not YAML: ")
    assert "starts on line 6" in refused(text)


def test_the_one_configmap_among_several_documents() -> None:
    others = (
        "kind: Service\napiVersion: v1\nspec: &a {b: !x c}\n---\nkind: ConfigMap\ndata: {other: x}\n---\n- 1\n---\n"
    )
    assert read_document(f"{others}{HEAD}  gatewayConfiguration: 'listener: {{}}'").data == {"listener": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f: the file is empty: nothing in it but comments and white space"),
        ("# auth:\n---\n", "f: the file is empty: nothing in it but comments and white space"),
        ("- a", "f:1:1: the configuration must be a mapping of keys, not a list"),
        ("hello", 'f:1:1: the configuration must be a mapping of keys, not the string "hello"'),
        ("!x {}", "f:1:1: tags (!x) are not allowed"),
        ("a: 1\n---\nb: 2", "f:2:1: the file holds 2 YAML documents (on lines 1, 2), and none of them is a ConfigMap"),
        ("kind: Deployment\napiVersion: apps/v1", "f:1:7: kind: this is a Kubernetes Deployment, not a ConfigMap"),
        ("kind: ConfigMap", "f:1:1: the ConfigMap has no key gatewayConfiguration, schedulerConfiguration or router"),
        ("kind: ConfigMap\ndata: 5", "f:2:1: the ConfigMap has no key"),
        ("kind: ConfigMap\ndata: {}", "f:2:1: the ConfigMap has no key"),
        (f"{HEAD}  gatewayConfiguration: ''", "f:5:3: data.gatewayConfiguration: the configuration is empty"),
        (
            f"{HEAD}  gatewayConfiguration: |\n    # none\n",
            "f:5:3: data.gatewayConfiguration: the configuration is empty",
        ),
        (f"{HEAD}  gatewayConfiguration: {{a: b}}", "f:5:3: data.gatewayConfiguration: must be a text, not a mapping"),
        (f"{HEAD}  gatewayConfiguration:", "f:5:3: data.gatewayConfiguration: must be a text, not null"),
        (
            f"{HEAD}  gatewayConfiguration: |\n    a: 1\n    ---\n    b: 1\n",
            "f:7:5: data.gatewayConfiguration: holds 2",
        ),
        (
            f"{HEAD}  gatewayConfiguration: |\n    - a\n",
            "f:6:5: the configuration must be a mapping of keys, not a list",
        ),
        (
            f"{HEAD}  gatewayConfiguration: |\n    a: 1\n  routerConfiguration: |\n    a: 2\n",
            "f:7:3: data: gatewayConfiguration and routerConfiguration are different documents; only one may be there",
        ),
        (
            f"{HEAD}  gatewayConfiguration: 'a: 1'\n---\n{HEAD}  gatewayConfiguration: 'a: 1'\n",
            "f:6:1: the file holds 2 ConfigMaps with a configuration (on lines 1, 6); only one may be there",
        ),
        ("a: {{ .Values.a }}", "f:1:4: this is an unrendered template"),
    ],
)
def test_what_is_no_configuration(text: str, message: str) -> None:
    assert refused(text).startswith(message)


def test_one_document_under_two_names() -> None:
    text = f"{HEAD}  gatewayConfiguration: |\n    a: 1\n  gatewayConfiguration.yaml: |-\n    a: 1\n"
    assert read_document(text).data == {"a": 1}


def test_a_kind_alone_makes_no_manifest() -> None:
    assert read_document("kind: other\na: 1").data == {"kind": "other", "a": 1}
    assert read_document("kind: 5\napiVersion: v1").data == {"kind": 5, "apiVersion": "v1"}


def test_repeated_keys_of_the_manifest_are_kept() -> None:
    document = read_document(f"apiVersion: v2\nkind: ConfigMap\n{HEAD}  gatewayConfiguration: 'a: 1'\n")
    assert [problem.path for problem in document.problems] == [("apiVersion",)]
    assert [warning.path for warning in document.warnings] == [("kind",)]


def test_equal_documents_count_once() -> None:
    assert choose({"a": "x: 1\n", "b": "x: 1", "c": "x: 2"}) == ["a", "c"]


def test_what_is_there_is_listed() -> None:
    assert listing([]) == "it is empty"
    assert listing(["a", "b"]) == "it holds a, b"
    assert listing([str(number) for number in range(30)]).endswith("19 and 10 more")
    assert listing(["a", "gatewayConfig.yaml"]).endswith('(did you mean "gatewayConfiguration.yaml"?)')
