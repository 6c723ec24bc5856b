"""`infer-gateway explain`: one decision of a running sidecar, as a table."""

import json
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from rich.console import Console
from rich.table import Table
from rich.text import Text

from extproc.errors import GatewayError

#: Seconds. A decision takes less than a thousandth of one.
TIMEOUT = 10


class ExplainError(GatewayError):
    """The sidecar cannot be asked, or would refuse the request. `str()` says why."""


def run(body: bytes, admin: str, path: str, *, as_json: bool) -> None:
    """Asks the admin pages at `admin` (host:port) and prints the answer.

    Raises:
        ExplainError: there is no answer, or the request would be refused.
    """
    row = _ask(body, admin, path)
    console = Console()
    if as_json:
        console.print_json(json.dumps(row))
    else:
        _show(row, console)


def _ask(body: bytes, admin: str, path: str) -> dict[str, Any]:
    request = Request(f"http://{admin}/debug/explain?path={quote(path)}", data=body)
    request.add_header("content-type", "application/json")
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            row: dict[str, Any] = json.load(answer)
            return row
    except HTTPError as error:
        raise ExplainError(f"refused with {error.code}: {_message(error.read())}") from None
    except (URLError, OSError, ValueError) as error:
        raise ExplainError(f"no answer from {admin}: {error}") from None


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:200]


def _show(row: dict[str, Any], console: Console) -> None:
    weights: dict[str, float] = row["weights"]
    # Text, since names come from clients and rich would read markup in a string.
    title = Text(f"{row['model']}: {row['prompt_tokens']} prompt tokens, {row['uncached_tokens']} to compute")
    grid = Table(title=title)
    grid.add_column("pod")
    for name, weight in weights.items():
        grid.add_column(f"{name} ×{weight:g}", justify="right")
    grid.add_column("total", justify="right", style="bold")
    grid.add_column("in flight", justify="right")
    order = {address: place for place, address in enumerate(row["pods"], 1)}
    for candidate in row["candidates"]:
        place = order.get(candidate["pod"])
        scores = [f"{candidate['scores'][name]:.1f}" if name in candidate["scores"] else "-" for name in weights]
        name = candidate["pod"] if place is None else f"{candidate['pod']} ({place})"
        grid.add_row(name, *scores, f"{candidate['total']:.1f}", str(candidate["in_flight"]))
    console.print(grid)
    for name, left in row["filtered"].items():
        console.print(f"after filter {name}: {left} pods")
