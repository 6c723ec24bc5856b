"""How this copy of the package was built."""

from importlib.util import find_spec


def compiled() -> bool:
    """Whether the request path runs as machine code (ARCHITECTURE.md, "Compiled ahead of time")."""
    # Any module of those in pyproject.toml would do: they are compiled together or not at all.
    spec = find_spec("extproc.protocol.session")
    return spec is not None and spec.origin is not None and not spec.origin.endswith(".py")
