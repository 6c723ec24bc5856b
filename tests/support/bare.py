"""For processes that are to find nothing in their environment, but the same build of the package as this one."""

import os

BARE = {"PATH": "", **{name: os.environ[name] for name in ("PYTHONPATH", "PYTHONSAFEPATH") if name in os.environ}}
