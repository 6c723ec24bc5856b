import email.parser
import email.policy
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.errors import Refusal
from extproc.parsers.form import MAX_PARTS, read_form, replace_model

TYPE = 'multipart/form-data; boundary="b"'


def multipart(*parts: tuple[str, bytes], boundary: str = "b", end: str = "--\r\n") -> bytes:
    pieces = [f"--{boundary}\r\n{head}\r\n\r\n".encode() + value + b"\r\n" for head, value in parts]
    return b"".join(pieces) + f"--{boundary}{end}".encode()


def field(name: str) -> str:
    return f'Content-Disposition: form-data; name="{name}"'


FILE = 'Content-Disposition: form-data; name="file"; filename="model"\r\nContent-Type: audio/wav'


@pytest.mark.parametrize(
    "parts",
    [
        [(field("model"), b"whisper-1"), (FILE, b"x" * 100_000)],
        [(FILE, b"\r\n--x--b\r\n" * 1000), (field("language"), b"de"), (field("model"), b"whisper-1")],
        [("content-disposition: form-data; name=model", b"whisper-1")],
        [('Content-Type: text/plain\r\nCONTENT-DISPOSITION:form-data; NAME="model"', b"whisper-1")],
        [(r'Content-Disposition: form-data; name="m\odel"', b"whisper-1")],
        [(field("model") + "\r\nContent-Type: text/plain; charset=utf-8", b" whisper-1 ")],
    ],
)
def test_the_model_is_found_before_and_behind_a_file(parts: list[tuple[str, bytes]]) -> None:
    form = read_form(b"preamble\r\n" + multipart(*parts), TYPE)
    assert (form.model(), form.unclear) == ("whisper-1", False)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (multipart((field("model"), b"m"), end=""), TYPE),
        (multipart((field("model"), b"m"), end="\r\n"), TYPE),
        (multipart((field("x") + "\r\n" + "x" * 5000, b"m")), TYPE),
        (multipart(*[(field("x"), b"")] * (MAX_PARTS + 1)), TYPE),
        (multipart(("Content-Disposition: form-data; name*=utf-8''model", b"m")), TYPE),
        (multipart((field("model") + "\r\nContent-Transfer-Encoding: base64", b"bQ==")), TYPE),
        (multipart((field("model"), b"m" * 5000)), TYPE),
        (b"nothing", TYPE),
        (b"", "multipart/form-data"),
        (b"x" * 100_000, "application/x-www-form-urlencoded"),
        (b"&".join([b"a=1"] * 2000), "application/x-www-form-urlencoded"),
    ],
)
def test_what_cannot_be_read_for_sure_is_unclear(body: bytes, kind: str) -> None:
    assert read_form(body, kind).unclear


def test_of_several_the_last_counts_and_all_are_known() -> None:
    form = read_form(multipart((field("model"), b"a"), (field("model"), b"b")), TYPE)
    assert [one.value for one in form.models] == [b"a", b"b"]
    assert form.model() == "b"
    assert read_form(b"model=a&x=1&model=b%2Fc", "application/x-www-form-urlencoded; charset=utf-8").model() == "b/c"


def test_no_model_and_no_text() -> None:
    assert read_form(multipart((FILE, b"x")), TYPE).model() == ""
    assert read_form(multipart((field("model"), b"\xff")), TYPE).model() == ""


def test_the_model_is_replaced_and_nothing_else() -> None:
    file = bytes(range(256)) * 50
    body = multipart((field("model"), b"a"), (FILE, file), (field("model"), b"bb"))
    expected = multipart((field("model"), "é".encode()), (FILE, file), (field("model"), "é".encode()))
    assert replace_model(body, read_form(body, TYPE), "é") == expected
    for text, kind in ((b"model=a", "application/x-www-form-urlencoded"), (multipart((FILE, b"")), TYPE)):
        with pytest.raises(Refusal):
            replace_model(text, read_form(text, kind), "x")


names = st.sampled_from(["model", "file", "Model", "mode", "x"])
values = st.binary(max_size=30) | st.sampled_from([b"\r\n", b"--b", b"\r\n--", b"\r\n--c--\r\n"])


@given(st.lists(st.tuples(names, values), max_size=5))
def test_the_standard_library_reads_the_same(fields: list[tuple[str, bytes]]) -> None:
    boundary = uuid.uuid4().hex
    body = multipart(*[(field(name), value) for name, value in fields], boundary=boundary)
    kind = f"multipart/form-data; boundary={boundary}"
    parser = email.parser.BytesParser(policy=email.policy.HTTP)
    message = parser.parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    parts = message.get_payload() if message.is_multipart() else []
    assert isinstance(parts, list)
    found = [part.get_param("name", header="content-disposition") for part in parts]
    form = read_form(body, kind)
    assert len(form.models) == found.count("model") == [name for name, _ in fields].count("model")
    assert [one.value for one in form.models] == [value for name, value in fields if name == "model"]


@given(st.binary(max_size=300), st.text(max_size=40))
def test_rubbish_never_raises(body: bytes, kind: str) -> None:
    for content_type in (TYPE, kind, f"multipart/form-data;{kind}", "application/x-www-form-urlencoded"):
        read_form(body, content_type).model()
