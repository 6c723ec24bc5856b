"""From measurements to tables: ratios first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from gateways.systems import DIRECT, FLOOR, OURS

#: A measurement: a system and a cell in a round, as `bench/peers.py` saves it.
Row = Mapping[str, Any]
GATEWAY, GRPCIO, SMG = "infer-gateway", "infer-gateway, grpc.aio", "smg cache_aware"
#: Of issue 8's measure. CPU µs of the sidecar, by KiB of body.
SIDECAR_BUDGET = {1: 120.0, 32: 250.0}
LEAST_GAIN, MOST_ADDED_MS, MOST_P99 = 5.0, 0.6, 3.0


@dataclass(frozen=True)
class Cell:
    """What is asked of a system."""

    kib: int
    concurrency: int
    stream: bool = False

    def __str__(self) -> str:
        return f"{self.kib} KB, {self.concurrency} at once{', streamed' if self.stream else ''}"


class Results:
    """Medians over the rounds. Ratios and differences are taken within a round first: a machine's mood passes both."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows: dict[tuple[str, Cell], dict[int, Row]] = {}
        for row in rows:
            cell = Cell(row["kib"], row["concurrency"], row["stream"])
            found = self._rows.setdefault((row["system"], cell), {})
            if row["requests"]:
                found[row["round"]] = row
        self.cells = list(dict.fromkeys(cell for _, cell in self._rows))
        self.systems = list(dict.fromkeys(system for system, _ in self._rows))

    def rounds(self, system: str, cell: Cell) -> dict[int, Row]:
        return self._rows.get((system, cell), {})

    def cpu(self, system: str, cell: Cell, part: str | None = None) -> float | None:
        """CPU µs per request, of a part or of all of them."""
        return _median(_cpu(row, part) for row in self.rounds(system, cell).values())

    def of(self, system: str, cell: Cell, key: str) -> float | None:
        return _median(row[key] for row in self.rounds(system, cell).values())

    def rate(self, system: str, cell: Cell) -> float | None:
        return _median(row["requests"] / row["seconds"] for row in self.rounds(system, cell).values())

    def added(self, system: str, cell: Cell, key: str, *, over: str = DIRECT) -> float | None:
        """Milliseconds of a percentile more than the same without a gateway, or than another system takes."""
        return _median((a[key] - b[key]) / 1e3 for a, b in self._pairs(system, over, cell))

    def cpu_ratio(self, system: str, other: str, cell: Cell, part: str | None = None) -> float | None:
        return _median(_cpu(a, part) / _cpu(b, part) for a, b in self._pairs(system, other, cell))

    def ratio(self, system: str, other: str, cell: Cell, key: str) -> float | None:
        return _median(a[key] / b[key] for a, b in self._pairs(system, other, cell))

    def _pairs(self, system: str, other: str, cell: Cell) -> list[tuple[Row, Row]]:
        theirs = self.rounds(other, cell)
        return [(row, theirs[number]) for number, row in self.rounds(system, cell).items() if number in theirs]


def _cpu(row: Row, part: str | None) -> float:
    parts: Mapping[str, float] = row["cpu"]
    requests: int = row["requests"]
    return (sum(parts.values()) if part is None else parts[part]) / requests * 1e6


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return median(found) if found else None


def verdicts(results: Results) -> list[str]:
    """What was asked for, what was found."""
    lines = []

    def say(what: str, found: float | None, limit: float, unit: str, *, least: bool = False) -> None:
        if found is None:
            return
        met = found >= limit if least else found <= limit
        sign = ">=" if least else "<="
        lines.append(
            f"{'met   ' if met else 'MISSED'}  {what}: {_number(found)}{unit}, asked for {sign} {limit:g}{unit}"
        )

    for kib, budget in SIDECAR_BUDGET.items():
        cell = Cell(kib, 32)
        say(f"sidecar CPU per request, {cell}", results.cpu(GATEWAY, cell, "sidecar"), budget, " µs")
        say(
            f"grpc.aio's sidecar : ours, CPU, {cell}",
            results.cpu_ratio(GRPCIO, GATEWAY, cell, "sidecar"), LEAST_GAIN, "x", least=True,
        )  # fmt: skip
    for kib in SIDECAR_BUDGET:
        cell = Cell(kib, 32)
        say(f"Envoy and sidecar : smg cache_aware, CPU, {cell}", results.cpu_ratio(GATEWAY, SMG, cell), 1.0, "x")
        floor = results.cpu_ratio(FLOOR, SMG, cell)
        if floor is not None:
            lines.append(f"        Envoy alone, which reads no body : smg cache_aware, CPU, {cell}: {_number(floor)}x")
    cell = Cell(1, 1)
    say(f"p50 added to Envoy alone's, {cell}", results.added(GATEWAY, cell, "p50", over=FLOOR), MOST_ADDED_MS, " ms")
    whole = results.added(GATEWAY, cell, "p50")
    if whole is not None:
        lines.append(f"        p50 added to that without a gateway, {cell}: {_number(whole)} ms")
    say(f"p99 : Envoy alone's, {cell}", results.ratio(GATEWAY, FLOOR, cell, "p99"), MOST_P99, "x")
    return lines


def tables(results: Results) -> str:
    """Markdown."""
    systems = results.systems
    gateways = [system for system in systems if system != DIRECT]
    unary = [cell for cell in results.cells if not cell.stream]
    sizes = [cell for cell in unary if cell.concurrency == 32]
    counts = [cell for cell in unary if cell.kib == 1]
    streams = [cell for cell in results.cells if cell.stream]
    parts = [
        ("CPU per request by size of the body, relative to Envoy alone", "32 requests at once, unary.",
         _table([f"{cell.kib} KB" for cell in sizes],
                {one: [_times(results.cpu_ratio(one, FLOOR, cell)) for cell in sizes] for one in gateways})),
        ("CPU per request by size of the body, µs", "32 requests at once, unary. Envoy + sidecar.",
         _table([f"{cell.kib} KB" for cell in sizes],
                {one: [_cpu_text(results, one, cell) for cell in sizes] for one in gateways})),
        ("CPU per request by requests at once, µs", "Bodies of 1 KB, unary. Envoy + sidecar.",
         _table([str(cell.concurrency) for cell in counts],
                {one: [_cpu_text(results, one, cell) for cell in counts] for one in gateways})),
        ("Requests per second by requests at once", "Bodies of 1 KB, unary. Client and pods are on the same cores.",
         _table([str(cell.concurrency) for cell in counts],
                {one: [_whole(results.rate(one, cell)) for cell in counts] for one in systems})),
        ("Added latency by requests at once, ms: p50 / p99",
         "Bodies of 1 KB, unary. Over `direct` under the same load; that one's own are given.",
         _table([str(cell.concurrency) for cell in counts],
                {one: [_latency(results, one, cell) for cell in counts] for one in systems})),
        ("Streamed answers",
         "Bodies of 1 KB, 20 tokens 1 ms apart, which bounds the requests per second.",
         _table([f"{cell.concurrency} at once: CPU µs" for cell in streams]
                + [f"{cell.concurrency}: requests/s" for cell in streams],
                {one: [_cpu_text(results, one, cell) for cell in streams]
                 + [_whole(results.rate(one, cell)) for cell in streams] for one in gateways})),
    ]  # fmt: skip
    return "\n\n".join(f"### {title}\n\n{note}\n\n{table}" for title, note, table in parts)


def _table(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]
    return "\n".join([*lines, *(f"| {_name(name)} | {' | '.join(cells)} |" for name, cells in rows.items())])


def _name(system: str) -> str:
    return f"**{system}**" if system in OURS else system


def _cpu_text(results: Results, system: str, cell: Cell) -> str:
    if system in OURS and results.rounds(system, cell):
        return f"{_whole(results.cpu(system, cell, 'Envoy'))} + {_whole(results.cpu(system, cell, 'sidecar'))}"
    return _whole(results.cpu(system, cell))


def _latency(results: Results, system: str, cell: Cell) -> str:
    if system == DIRECT:
        p50, p99 = results.of(system, cell, "p50"), results.of(system, cell, "p99")
        return "–" if p50 is None or p99 is None else f"({p50 / 1e3:.2f} / {p99 / 1e3:.2f})"
    if not results.rounds(system, cell):
        return "–"
    return f"{_number(results.added(system, cell, 'p50'))} / {_number(results.added(system, cell, 'p99'))}"


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:,.0f}"


def token_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Of aiperf's figures."""
    if not rows:
        return ""
    columns = ["TTFT p50, ms", "TTFT p90, ms", "between tokens p50, ms", "output tokens/s", "prefix tokens cached"]
    cells = {
        row["system"]: [
            _whole(row["ttft_p50"]), _whole(row["ttft_p90"]), f"{row['itl_p50']:.1f}", _whole(row["tokens_per_second"]),
            f"{row['cached']:.0%}",
        ]
        for row in rows
    }  # fmt: skip
    return _table(columns, cells)
