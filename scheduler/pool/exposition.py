"""Finds a handful of families on a page in Prometheus' text format, or in OpenMetrics, without parsing the rest.

A page has hundreds of lines and is read several times a second from each pod, so nothing is split or matched line by
line: `bytes.find` looks for a family's TYPE line, first near where the previous page had it, and reads only the lines
below it. Whatever a page looks like, its reading takes a fixed number of such searches for each family, and a limited
number of looks at what they find: the process that reads it decides requests.

What a page may look like: https://prometheus.io/docs/instrumenting/exposition_formats/. Read here are plain metric
names (no quoted UTF-8 names), each family in one group below its TYPE line, or anywhere where it has none. A last
line without its line feed is taken for cut off and not read.
"""

import re

#: Where a family is looked for first, relative to its place on the previous page, in bytes. The text before it on a
#: page grows as counters gain digits and shrinks rarely.
_HINT_BEFORE, _HINT_AFTER = 256, 1024

#: Looks at one page: places where the name of a family stands, of which each is a sample, part of a longer name or of a
#: comment. An engine with 64 ranks has some hundreds; one that ran thousands of sets of adapters as many series.
MAX_LOOKS = 10_000
#: Bytes of a line that is read. Of the longest real ones, 250 names of adapters take 25 KB.
MAX_LINE = 64 * 1024
#: Bytes of one page that are read with care, by regular expressions: labels that are taken apart, lines with exemplars.
MAX_CAREFUL = 256 * 1024
#: Blanks before a name. The format allows them; no known engine writes any.
MAX_INDENT = 16

_LINE_FEED = 0x0A
_AFTER_NAME = (b"{", b" ", b"\t")

#: A sample after its name, for the lines that need care: labels, value. Possessive, so that a hostile line costs
#: linear time.
_SAMPLE = re.compile(rb'[ \t]*+(\{(?:[^"}]++|"(?:[^"\\]++|\\.)*+")*+\})?[ \t]*+([^ \t]++)')
#: A name begins where a longer one does not go on: else each letter of a name without a value would be tried as one.
_LABEL = re.compile(rb'(?<![a-zA-Z0-9_])([a-zA-Z_][a-zA-Z0-9_]*+)[ \t]*+=[ \t]*+"((?:[^"\\]++|\\.)*+)"')
_ESCAPE = re.compile(r'\\([\\n"])')
#: How a page begins: with a comment, or with a sample; or it is empty.
_BEGINNING = re.compile(rb"\s*+(?:\Z|#|[a-zA-Z_:][a-zA-Z0-9_:]*+(?:[ \t]*+\{|[ \t]++[-+]?(?:[0-9]|\.[0-9]|NaN|Inf)))")

#: The raw bytes of the labels with their braces (empty where there are none), and the value.
Series = tuple[bytes, float]


class TooMuch(ValueError):
    """The page has more of something than any engine's. `str()` names it."""


class Page:
    """A page, and the number of looks at it that are left."""

    __slots__ = ("_careful", "_looks", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._looks = MAX_LOOKS
        self._careful = MAX_CAREFUL

    def series(self, name: bytes, start: int, end: int) -> list[Series]:
        """The samples named exactly `name` between two offsets, in their order. A line that cannot be read is left out.

        Raises:
            TooMuch: the name stands in too many places, or in a line that is too long.
        """
        text = self.text
        looks, found = self._looks, []
        at = text.find(name, start, end)
        while at >= 0:
            looks -= 1
            if looks < 0:
                raise TooMuch(f"more than {MAX_LOOKS} lines to look at")
            after = at + len(name)
            if text[after : after + 1] in _AFTER_NAME and _begins_line(text, at):
                line_end = text.find(b"\n", after)
                if line_end < 0:
                    break
                if line_end - after > MAX_LINE:
                    raise TooMuch(f"a line of more than {MAX_LINE} bytes")
                sample = self._sample(after, line_end)
                if sample is not None:
                    found.append(sample)
                after = line_end
            at = text.find(name, after, end)
        self._looks = looks
        return found

    def labels(self, raw: bytes) -> dict[str, str]:
        """As `labels`.

        Raises:
            TooMuch: too many were, before.
        """
        self._with_care(len(raw))
        return labels(raw)

    def _sample(self, start: int, end: int) -> Series | None:
        """The text after a name: labels, value, and perhaps a timestamp and an exemplar."""
        text = self.text
        # The value is after the last brace of the line: a label's value may hold braces. An exemplar, always after a
        # `#`, has braces of its own.
        if text.find(b"#", start, end) < 0:
            close = text.rfind(b"}", start, end) + 1
            try:
                return (text[start:close], float(text[close:end])) if close else (b"", float(text[start:end]))
            except ValueError:
                pass
        self._with_care(end - start)
        match = _SAMPLE.match(text, start, end)
        if match is None:
            return None
        try:
            return match[1] or b"", float(match[2])
        except ValueError:
            return None

    def _with_care(self, size: int) -> None:
        self._careful -= size
        if self._careful < 0:
            raise TooMuch(f"more than {MAX_CAREFUL} bytes of labels and exemplars")


class Family:
    """One metric family on the pages of one pod. Keeps nothing but where it last was."""

    __slots__ = ("_hint", "_marker", "name")

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self._marker = b"# TYPE " + self.name + b" "
        self._hint = 0

    def locate(self, page: bytes) -> tuple[int, int] | None:
        """First and last offset between which all samples of the family are, or None: it is not on the page.

        Samples of other families may be there as well: the next TYPE line marks the end.
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


def labels(raw: bytes) -> dict[str, str]:
    """Label values by name. Bytes that are not UTF-8 are replaced."""
    return {
        name.decode(): _ESCAPE.sub(_unescape, value.decode("utf-8", "replace")) for name, value in _LABEL.findall(raw)
    }


def is_exposition(page: bytes) -> bool:
    """Whether a page begins like an exposition. An empty page is one: an engine may have nothing to report."""
    return _BEGINNING.match(page) is not None


def _begins_line(page: bytes, at: int) -> bool:
    if at == 0 or page[at - 1] == _LINE_FEED:
        return True
    before = page[max(at - MAX_INDENT, 0) : at].rstrip(b" \t")
    # Else there are more blanks before it than any engine would write.
    return before.endswith(b"\n") or (not before and at <= MAX_INDENT)


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
