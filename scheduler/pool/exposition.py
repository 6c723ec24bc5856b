"""Finds a handful of families on a page in Prometheus' text format, or in OpenMetrics, without parsing the rest.

A page has hundreds of lines and is read several times a second from each pod, so nothing is split or matched line by
line: `bytes.find` looks for a family's TYPE line, first near where the previous page had it, and reads only the lines
below it.

What a page may look like: https://prometheus.io/docs/instrumenting/exposition_formats/. Read here are plain metric
names (no quoted UTF-8 names), each family in one group below its TYPE line, or anywhere where it has none. A last
line without its line feed is taken for cut off and not read.
"""

import re

#: Where a family is looked for first, relative to where the previous page had it, in bytes. What comes before it on a
#: page grows as counters gain digits and shrinks rarely.
_HINT_BEFORE, _HINT_AFTER = 256, 1024

_LINE_FEED = 0x0A
_AFTER_NAME = (b"{", b" ", b"\t")

#: A sample after its name, for the lines that need care: labels, value. Possessive, so that a hostile line costs
#: linear time.
_SAMPLE = re.compile(rb'[ \t]*+(\{(?:[^"}]|"(?:[^"\\]|\\.)*+")*+\})?[ \t]*+([^ \t]++)')
_LABEL = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*+)[ \t]*+=[ \t]*+"((?:[^"\\]|\\.)*+)"')
_ESCAPE = re.compile(r'\\([\\n"])')
#: How a page begins: with a comment, or with a sample; or it is empty.
_BEGINNING = re.compile(rb"\s*+(?:\Z|#|[a-zA-Z_:][a-zA-Z0-9_:]*+(?:[ \t]*+\{|[ \t]++[-+]?(?:[0-9]|\.[0-9]|NaN|Inf)))")

#: The raw bytes of the labels with their braces (empty where there are none), and the value.
Series = tuple[bytes, float]


class Family:
    """One metric family on the pages of one pod. Keeps nothing but where it last was."""

    __slots__ = ("_hint", "_marker", "name")

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self._marker = b"# TYPE " + self.name + b" "
        self._hint = 0

    def locate(self, page: bytes) -> tuple[int, int] | None:
        """First and last offset between which all samples of the family are, or None: it is not on the page.

        Samples of other families may be there as well: what tells the end is the next TYPE line.
        """
        marker, hint = self._marker, self._hint
        at = page.find(marker, max(hint - _HINT_BEFORE, 0), hint + _HINT_AFTER)
        if at < 0:
            if (first := page.find(self.name)) < 0:
                return None
            at = page.find(marker, max(first - len(marker), 0))
        if at < 0 or (at > 0 and page[at - 1] != _LINE_FEED):
            return 0, len(page)
        self._hint = at
        end = page.find(b"\n# TYPE ", at + len(marker))
        return at, len(page) if end < 0 else end + 1


def series(page: bytes, name: bytes, start: int, end: int) -> list[Series]:
    """The samples named exactly `name` between two offsets, in their order. A line that cannot be read is left out."""
    found: list[Series] = []
    at = page.find(name, start, end)
    while at >= 0:
        after = at + len(name)
        if page[after : after + 1] in _AFTER_NAME and _begins_line(page, at):
            line_end = page.find(b"\n", after)
            if line_end < 0:
                break
            sample = _sample(page, after, line_end)
            if sample is not None:
                found.append(sample)
            after = line_end
        at = page.find(name, after, end)
    return found


def labels(raw: bytes) -> dict[str, str]:
    """Label values by name. Bytes that are not UTF-8 are replaced."""
    return {
        name.decode(): _ESCAPE.sub(_unescape, value.decode("utf-8", "replace")) for name, value in _LABEL.findall(raw)
    }


def is_exposition(page: bytes) -> bool:
    """Whether a page begins like an exposition. An empty page is one: there is nothing to tell."""
    return _BEGINNING.match(page) is not None


def _begins_line(page: bytes, at: int) -> bool:
    if at == 0 or page[at - 1] == _LINE_FEED:
        return True
    return not page[page.rfind(b"\n", 0, at) + 1 : at].strip(b" \t")


def _sample(page: bytes, start: int, end: int) -> Series | None:
    """What stands after a name: labels, value, and perhaps a timestamp and an exemplar."""
    # The value is after the last brace of the line: a label's value may hold braces. An exemplar, always after a `#`,
    # has braces of its own.
    if page.find(b"#", start, end) < 0:
        close = page.rfind(b"}", start, end) + 1
        try:
            return (page[start:close], float(page[close:end])) if close else (b"", float(page[start:end]))
        except ValueError:
            pass
    match = _SAMPLE.match(page, start, end)
    if match is None:
        return None
    try:
        return match[1] or b"", float(match[2])
    except ValueError:
        return None


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
