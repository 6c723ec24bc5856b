"""What a simulation found, for people and for programs."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from extproc.simulation.scenario import Outcome
from extproc.simulation.summary import Figure, better, over_seeds, plain, ratio

#: Which figures the verdict is about, in words.
_VERDICT = {"ttft_p90": "TTFT p90", "ttft_mean": "TTFT mean", "tpot_p90": "TPOT p90", "seconds_p90": "end to end p90"}
_TENANT = "ttft_p90"


class Comparison:
    """Outcomes by configuration, in their order; the first is what the others are compared with."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes: dict[str, list[Outcome]] = {}
        for outcome in outcomes:
            self.outcomes.setdefault(outcome.name, []).append(outcome)
        self.figures = {
            name: over_seeds([outcome.summary for outcome in of_one]) for name, of_one in self.outcomes.items()
        }
        self.tenants: dict[str, dict[str, dict[str, Figure]]] = {}
        for name, of_one in self.outcomes.items():
            tenants = sorted(set.intersection(*(set(outcome.tenants) for outcome in of_one)))
            self.tenants[name] = {
                tenant: over_seeds([outcome.tenants[tenant] for outcome in of_one]) for tenant in tenants
            }

    @property
    def baseline(self) -> str:
        return next(iter(self.figures))

    @property
    def seeds(self) -> int:
        return len(self.outcomes[self.baseline])

    def verdicts(self) -> list[str]:
        """A sentence for each configuration beside the first: better, worse or alike, by how much, and for whom."""
        base = self.figures[self.baseline]
        said = []
        for name, figures in self.figures.items():
            if name == self.baseline:
                continue
            parts = []
            for key, words in _VERDICT.items():
                better_here = better(key, figures[key], base[key])
                times = ratio(figures[key].median, base[key].median)
                if better_here is None and self.seeds == 1 and key == "ttft_p90":
                    parts.append(f"{words} alike ({times:.2f}x)")
                elif better_here is not None:
                    parts.append(f"{words} {'better' if better_here else 'worse'} ({times:.2f}x)")
            for key, words in (("refused", "refused"), ("failed", "failed")):
                if figures[key].median != base[key].median:
                    parts.append(f"{figures[key].median - base[key].median:+.0f} {words}")
            parts += self._for_whom(name)
            said.append(f"{name}: " + (", ".join(parts) if parts else f"no difference that {self.seeds} seeds show"))
        return said

    def _for_whom(self, name: str) -> list[str]:
        mine, base = self.tenants[name], self.tenants[self.baseline]
        verdicts: dict[bool, list[str]] = {True: [], False: []}
        for tenant in mine:
            if tenant in base:
                found = better(_TENANT, mine[tenant][_TENANT], base[tenant][_TENANT])
                if found is not None:
                    times = ratio(mine[tenant][_TENANT].median, base[tenant][_TENANT].median)
                    verdicts[found].append(f"{tenant or '(none)'} {times:.2f}x")
        if not verdicts[True] or not verdicts[False]:
            # All tenants alike: the verdict for all traffic covers them.
            return []
        return [
            f"{'better' if found else 'worse'} for {', '.join(tenants[:4])}{' …' if len(tenants) > 4 else ''}"
            for found, tenants in verdicts.items()
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "baseline": self.baseline,
            "seeds": [outcome.seed for outcome in self.outcomes[self.baseline]],
            "configurations": {
                name: {
                    "requests": self.outcomes[name][0].summary.requests,
                    "figures": plain(figures),
                    "tenants": {tenant: plain(of_one) for tenant, of_one in self.tenants[name].items()},
                    "faults": _faults(self.outcomes[name]),
                }
                for name, figures in self.figures.items()
            },
            "verdicts": self.verdicts(),
        }


#: Columns of a comparison, beside the configuration's name.
COLUMNS = (
    "TTFT mean", "p50", "p90", "p99", "TPOT p50", "p90", "end to end p50", "p90", "p99", "cached", "req/s", "refused",
    "failed", "busiest pod",
)  # fmt: skip


def cells(row: Mapping[str, Figure]) -> list[str]:
    """A configuration's medians, in the order of `COLUMNS`."""
    return [
        *[_seconds(row[f"ttft_{which}"].median) for which in ("mean", "p50", "p90", "p99")],
        *[_seconds(row[f"tpot_{which}"].median) for which in ("p50", "p90")],
        *[_seconds(row[f"seconds_{which}"].median) for which in ("p50", "p90", "p99")],
        f"{row['hit_rate'].median:.1%}",
        f"{row['requests_per_second'].median:.2f}",
        f"{row['refused'].median:,.0f}",
        f"{row['failed'].median:,.0f}",
        f"{row['spread'].median:.2f}x",
    ]


def table(comparison: Comparison, console: Console) -> None:
    """Prints the comparison."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("configuration")
    for column in COLUMNS:
        grid.add_column(column, justify="right")
    for name, row in comparison.figures.items():
        grid.add_row(name, *cells(row))
    console.print(grid)
    if comparison.seeds > 1:
        console.print(f"medians of {comparison.seeds} seeds; TTFT p90 from least to most:", highlight=False)
        for name, row in comparison.figures.items():
            one = row["ttft_p90"]
            console.print(f"  {name}: {_seconds(one.least)} to {_seconds(one.most)}", highlight=False)
    _tenants(comparison, console)
    if len(comparison.figures) > 1:
        console.print(f"\nBeside {comparison.baseline}:", highlight=False)
        for sentence in comparison.verdicts():
            console.print(f"  {sentence}", highlight=False)
    for name, outcomes in comparison.outcomes.items():
        for fault, count in _faults(outcomes).items():
            console.print(f"  {name}: plugin fault, {count} times: {fault}", highlight=False)


def _tenants(comparison: Comparison, console: Console) -> None:
    tenants = sorted({tenant for of_one in comparison.tenants.values() for tenant in of_one})
    if not tenants:
        return
    grid = Table(box=None, pad_edge=False, header_style="bold", title="TTFT p90 by tenant", title_justify="left")
    grid.add_column("tenant")
    for name in comparison.figures:
        grid.add_column(name, justify="right")
    for tenant in tenants[:_MAX_TENANTS]:
        cells = [comparison.tenants[name].get(tenant) for name in comparison.figures]
        grid.add_row(
            tenant or "(none)",
            *["-" if cell is None else _seconds(cell[_TENANT].median) for cell in cells],
        )
    console.print()
    console.print(grid)
    if len(tenants) > _MAX_TENANTS:
        console.print(f"… and {len(tenants) - _MAX_TENANTS} more (--json has all)", highlight=False)


#: Tenants that the table shows; JSON has all.
_MAX_TENANTS = 20


def _faults(outcomes: Sequence[Outcome]) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for outcome in outcomes:
        for text, count in outcome.faults.items():
            found[text] = found.get(text, 0) + count
    return found


def _seconds(value: float) -> str:
    if value != value:
        return "-"
    if value >= 100:
        return f"{value:,.0f} s"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:,.0f} ms"
