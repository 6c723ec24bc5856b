# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""Reads messages whose texts are bytes and whose maps are lists of entries: `proto/generate.py` has the reason."""

from collections.abc import Iterable

from extproc._pb import MetadataFilterMetadataEntry, ProcessingRequestAttributesEntry, Struct, Value


def text(raw: bytes) -> str:
    """`raw` as text; bytes that are not UTF-8 are replaced."""
    return raw.decode("utf-8", "replace")


def text_of(value: Value | None) -> str:
    """A string value; empty for none, and for a value of another kind."""
    return "" if value is None else value.string_value.decode("utf-8", "replace")


def struct_of(
    entries: Iterable[MetadataFilterMetadataEntry | ProcessingRequestAttributesEntry], key: bytes
) -> Struct | None:
    """The value under `key`. Envoy writes these out of maps: there is one at most."""
    for entry in entries:
        if entry.key == key:
            return entry.value
    return None


def value_of(struct: Struct | None, key: bytes) -> Value | None:
    """As `struct_of`, in a struct or in none."""
    if struct is not None:
        for entry in struct.fields:
            if entry.key == key:
                return entry.value
    return None
