"""`infer-gateway explain`: one decision of a running sidecar, as a table of plain text."""

import json
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from extproc.admin.columns import columns
from extproc.errors import GatewayError

#: Seconds. A decision takes less than a thousandth of one.
TIMEOUT = 10


class ExplainError(GatewayError):
    """The sidecar cannot be asked, or would refuse the request. `str()` gives the reason."""


def run(body: bytes, admin: str, path: str, *, as_json: bool) -> None:
    """Asks the admin pages at `admin` (host:port) and prints the answer.

    Raises:
        ExplainError: there is no answer, or the request would be refused.
    """
    row = _ask(body, admin, path)
    print(json.dumps(row, indent=2) if as_json else _shown(row))


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


def _shown(row: dict[str, Any]) -> str:
    weights: dict[str, float] = row["weights"]
    title = f"{row['model']}: {row['prompt_tokens']} prompt tokens, {row['uncached_tokens']} to compute"
    # Heads are broken at their hyphens: five scorers fit on 80 columns.
    scorers = [f"{name} ×{weight:g}".replace("-", "-\n").replace(" ", "\n") for name, weight in weights.items()]
    heads = ["pod", *scorers, "total", "in\nflight"]
    order = {address: place for place, address in enumerate(row["pods"], 1)}
    rows = []
    for candidate in row["candidates"]:
        place = order.get(candidate["pod"])
        scores = [f"{candidate['scores'][name]:.1f}" if name in candidate["scores"] else "-" for name in weights]
        name = candidate["pod"] if place is None else f"{candidate['pod']} ({place})"
        rows.append([name, *scores, f"{candidate['total']:.1f}", str(candidate["in_flight"])])
    lines = [title, "", *columns(heads, rows, numbers=frozenset(range(1, len(heads))))]
    costs = [(candidate["pod"], candidate["cost"]) for candidate in row["candidates"] if "cost" in candidate]
    if costs:
        costly = [[address, f"{cost['seconds']:.2f} s", cost["words"]] for address, cost in costs]
        lines += ["", *columns(["pod", "cost", "of which it"], costly, numbers=frozenset([1]))]
    lines += [f"after filter {name}: {left} pods" for name, left in row["filtered"].items()]
    # Names come from clients: what would move a terminal's cursor is shown, not obeyed.
    return "\n".join("".join(char if char.isprintable() else repr(char)[1:-1] for char in line) for line in lines)
