"""No circles between modules or rooms, imports for type checkers included, which the contracts in pyproject.toml leave out."""

from grimp import build_graph
from support.house import PACKAGES


def test_no_circles_imports_for_type_checkers_included() -> None:
    graph = build_graph(*PACKAGES, cache_dir=None, exclude_type_checking_imports=False)
    rooms = {module.rpartition(".")[0] for module in graph.modules} - {""}
    circles = {room: sorted(graph.nominate_cycle_breakers(room)) for room in rooms}
    found = {room: breakers for room, breakers in circles.items() if breakers}
    assert not found, "a circle of imports in these packages; without the imports named there would be none"
