"""Plots of a comparison as files, and one page that needs nothing else."""

from html import escape
from pathlib import Path

from extproc import __version__
from extproc.errors import GatewayError
from extproc.simulation.show import COLUMNS, Comparison, cells


class ReportError(GatewayError):
    """It cannot be drawn or written."""


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1100px; padding: 0 1rem; color: #1d1d1f;
  background: #fff; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .3rem .5rem; text-align: right; border-bottom: 1px solid #e3e3e6; }
th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; }
svg { max-width: 100%; height: auto; }
"""


def save(comparison: Comparison, workload: str, pods: int, *, html: Path | None, folder: Path | None) -> None:
    """Writes what is asked for.

    Raises:
        ReportError: matplotlib is not installed, or a file cannot be written.
    """
    try:
        from extproc.simulation import plots
    except ImportError as error:
        raise ReportError("plots need pip install 'infer-gateway[plots]'") from error
    drawn = plots.draw(comparison)
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for name, canvas in drawn.items():
                for form in ("svg", "png"):
                    (folder / f"{name}.{form}").write_bytes(plots.rendered(canvas, form))
        if html is not None:
            figures = [plots.rendered(canvas, "svg").decode() for canvas in drawn.values()]
            html.write_text(page(comparison, workload, pods, figures), encoding="utf-8")
    except OSError as error:
        raise ReportError(f"a report cannot be written: {error}") from error


def page(comparison: Comparison, workload: str, pods: int, figures: list[str]) -> str:
    """The page. `figures` are SVG documents."""
    requests = comparison.outcomes[comparison.baseline][0].summary.requests
    heads = "".join(f"<th>{escape(column)}</th>" for column in ("configuration", *COLUMNS))
    rows = "".join(
        f"<tr><td>{escape(name)}</td>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells(row)) + "</tr>"
        for name, row in comparison.figures.items()
    )
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in comparison.verdicts())
    # An XML declaration may only begin a document.
    drawings = "".join(f"<figure>{figure[figure.index('<svg') :]}</figure>" for figure in figures)
    title = escape(f"{workload}: {requests:,} requests, {pods} pods")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f"<p>infer-gateway {__version__}, simulate; medians of {comparison.seeds} seeds.</p>"
        f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"<h2>Beside {escape(comparison.baseline)}</h2><ul>{said}</ul>{_tenants(comparison)}{drawings}</body></html>\n"
    )


def _tenants(comparison: Comparison) -> str:
    tenants = sorted({tenant for of_one in comparison.tenants.values() for tenant in of_one})
    if not tenants:
        return ""
    heads = "".join(f"<th>{escape(name)}</th>" for name in comparison.figures)
    rows = []
    for tenant in tenants:
        found = [comparison.tenants[name].get(tenant) for name in comparison.figures]
        values = "".join("<td>–</td>" if one is None else f"<td>{one['ttft_p90'].median:.2f}</td>" for one in found)
        rows.append(f"<tr><td>{escape(tenant or '(none)')}</td>{values}</tr>")
    return (
        f'<h2>TTFT p90 by tenant, s</h2><div class="wide"><table><thead><tr><th>tenant</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
