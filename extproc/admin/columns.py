"""Tables as plain text: no name and no number is ever cut, on a terminal, in a file, in a CI's log."""

from collections.abc import Sequence
from itertools import zip_longest

#: Between two columns.
_GAP = "  "


def columns(heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: frozenset[int] = frozenset()) -> list[str]:
    """One line a row, under its heads, every column as wide as the longest text in it.

    Args:
        heads: line feeds in a head make it narrower; heads end on the same line.
        rows: texts, as many a row as there are heads.
        numbers: columns (from 0) that end at one place; the others begin at one.
    """
    stacked = zip_longest(*[reversed(head.split("\n")) for head in heads], fillvalue="")
    lines = [list(line) for line in stacked][::-1] + [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        _GAP.join(
            text.rjust(width) if place in numbers else text.ljust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
