"""Which document of a text is the configuration: the only one, or the one inside a ConfigMap manifest."""

from typing import Any

from extproc.config.document import BrokenDocument, Document, Place, parse, refuse_templates
from extproc.config.problems import Path, Position, Problem, nearest
from extproc.config.units import describe, shorten

#: Names that the configuration may have in a ConfigMap, as a key or (mounted) as a file.
NAMES = ("gatewayConfiguration", "schedulerConfiguration", "routerConfiguration")
KEYS = tuple(name + suffix for name in NAMES for suffix in ("", ".yaml"))

#: Names that are listed where none of them is the right one.
MAX_LISTED = 20


def read_document(text: str) -> Document:
    """The configuration's document, with positions in `text`. Its data is a mapping.

    Raises:
        BrokenDocument: there is none, or more than one, or it cannot be read.
    """
    refuse_templates(text)
    documents = parse(text)
    if not documents:
        raise BrokenDocument(Problem("the file is empty: nothing in it but comments and white space"))
    if len(documents) == 1:
        document = documents[0]
        return _unwrap(document, text) if _kind(document) else _mapping(document)
    ours = [document for document in documents if _kind(document) == "ConfigMap" and _present(document)]
    if len(ours) == 1:
        return _unwrap(ours[0], text)
    lines = ", ".join(str(document.position.line) for document in (ours or documents)[:MAX_LISTED])
    if ours:
        reason = f"the file holds {len(ours)} ConfigMaps with a configuration (on lines {lines}); only one may be there"
    else:
        reason = (
            f"the file holds {len(documents)} YAML documents (on lines {lines}), and none of them is a ConfigMap with"
            f" {_either()}; only one document may be there, or one such ConfigMap"
        )
    raise BrokenDocument(Problem(reason, position=(ours or documents)[1].position))


def choose(texts: dict[str, str]) -> list[str]:
    """The names of those that are not the same document as one before."""
    chosen: dict[str, str] = {}
    for name, text in texts.items():
        chosen.setdefault(text.rstrip(), name)
    return list(chosen.values())


def listing(names: list[str]) -> str:
    """`it holds a, b and 3 more (did you mean …)`, or that there is nothing."""
    if not names:
        return "it is empty"
    shown = ", ".join(shorten(name) for name in names[:MAX_LISTED])
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    near = next((match for name in names if (match := nearest(name, KEYS))), "")
    return f"it holds {shown}{more}" + (f' (did you mean "{near}"?)' if near else "")


def _either() -> str:
    return ", ".join(NAMES[:-1]) + f" or {NAMES[-1]}"


def _kind(document: Document) -> str:
    """The kind of a Kubernetes manifest; empty where the document is none."""
    data = document.data
    if not isinstance(data, dict) or "kind" not in data:
        return ""
    kind = data["kind"]
    return kind if isinstance(kind, str) and ("apiVersion" in data or kind == "ConfigMap") else ""


def _present(document: Document) -> list[str]:
    data = document.data.get("data")
    return [key for key in KEYS if key in data] if isinstance(data, dict) else []


def _mapping(document: Document) -> Document:
    if document.unusable and () in document.unusable:
        raise BrokenDocument(document.problems[0])
    if not isinstance(document.data, dict):
        reason = f"the configuration must be a mapping of keys, not {describe(document.data)}"
        raise BrokenDocument(Problem(reason, position=document.position))
    return document


def _unwrap(manifest: Document, text: str) -> Document:
    kind = _kind(manifest)
    if kind != "ConfigMap":
        raise BrokenDocument(
            Problem(
                f"this is a Kubernetes {shorten(kind)}, not a ConfigMap", ("kind",), manifest.position_of(("kind",))
            )
        )
    data: Any = manifest.data.get("data")
    present = _present(manifest)
    if not present:
        held = f"data must be a mapping, not {describe(data)}"
        if isinstance(data, dict):
            held = listing(list(data))
        elif data is None:
            held = "it has no data"
        reason = f"the ConfigMap has no key {_either()}: {held}"
        raise BrokenDocument(Problem(reason, position=manifest.position_of(("data",), key=True)))
    for key in present:
        if not isinstance(data[key], str):
            reason = (
                f'must be a text, not {describe(data[key])}: write "{key}: |-" and indent the configuration below it'
            )
            raise BrokenDocument(Problem(reason, ("data", key), manifest.position_of(("data", key), key=True)))
    chosen = choose({key: data[key] for key in present})
    if len(chosen) > 1:
        reason = f"{' and '.join(chosen)} are different documents; only one may be there"
        raise BrokenDocument(Problem(reason, ("data",), manifest.position_of(("data", chosen[1]), key=True)))
    inner = _inner(manifest, chosen[0], text)
    # A key that is repeated in the manifest itself may be the one that holds the configuration.
    inner.problems[:0] = manifest.problems
    inner.warnings[:0] = manifest.warnings
    return inner


def _inner(manifest: Document, key: str, text: str) -> Document:
    path: Path = ("data", key)
    content: str = manifest.data["data"][key]
    place = _placement(manifest, path, content, text)
    documents = parse(content, place)
    start = manifest.position_of(path, key=True)
    if not documents:
        raise BrokenDocument(Problem("the configuration is empty", path, start))
    if len(documents) > 1:
        reason = f"holds {len(documents)} YAML documents; only one may be there"
        raise BrokenDocument(Problem(reason, path, documents[1].position))
    return _mapping(documents[0])


def _placement(manifest: Document, path: Path, content: str, text: str) -> Place:
    """From a position in a value to its position in the file."""
    start = manifest.position_of(path)
    if path not in manifest.literals:
        # Quoted and folded texts have no lines of their own in the file.
        return lambda line, _column: Position(start.line, start.column, inner=line)
    # The lines of a literal (`|`) are the lines below its header, all indented by as much.
    lines = text.split("\n")[start.line :]
    indents = (
        len(outer.rstrip("\r")) - len(line)
        for outer, line in zip(lines, content.split("\n"), strict=False)
        if line.strip()
    )
    indent = max(next(indents, 0), 0)
    return lambda line, column: Position(start.line + line, column + indent)
