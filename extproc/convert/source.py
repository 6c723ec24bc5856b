"""Which configuration a text holds, and whose."""

from collections.abc import Mapping
from typing import Any

import yaml

from extproc.convert import endpoint_picker, kthena
from extproc.convert.result import CannotConvert, Converted, mapping

#: Bytes. No configuration has a tenth of it.
MAX_TEXT = 1 << 20


def convert(text: str) -> Converted:
    """What the text holds, made into a configuration of this gateway.

    Raises:
        CannotConvert: it is no YAML, or holds nothing that is known here.
    """
    if len(text) > MAX_TEXT:
        raise CannotConvert(f"more than {MAX_TEXT} bytes")
    found = [made for document in _documents(text) for made in _candidates(document)]
    if not found:
        raise CannotConvert(
            f"neither an {endpoint_picker.KIND} nor the configuration of Kthena's router (with `scheduler` or `auth`),"
            " plain or in a ConfigMap"
        )
    if len(found) > 1:
        raise CannotConvert(f"{len(found)} configurations: give one")
    kind, document = found[0]
    return endpoint_picker.convert(document) if kind == endpoint_picker.KIND else kthena.convert(document)


def _documents(text: str) -> list[Any]:
    try:
        return list(yaml.safe_load_all(text))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CannotConvert(f"no YAML: {error}") from None


def _candidates(document: object) -> list[tuple[str, Mapping[str, Any]]]:
    given = mapping(document)
    kind = given.get("kind")
    if kind == endpoint_picker.KIND:
        return [(endpoint_picker.KIND, given)]
    if kind == "ConfigMap":
        texts = [one for one in mapping(given.get("data")).values() if isinstance(one, str)]
        return [found for text in texts for inner in _inner(text) for found in _candidates(inner)]
    if kind is None and ("scheduler" in given or "auth" in given):
        return [("Kthena", given)]
    return []


def _inner(text: str) -> list[Any]:
    try:
        return [one for one in yaml.safe_load_all(text) if isinstance(one, dict)]
    except (yaml.YAMLError, ValueError, RecursionError):
        return []  # a ConfigMap may hold other texts
