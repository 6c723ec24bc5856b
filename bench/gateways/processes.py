"""CPU time of processes, from /proc."""

import os
from collections.abc import Iterable
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; none for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def tree(pid: int) -> set[int]:
    """A process and what it has started."""
    found = {pid}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text(encoding="utf-8").split():
            found |= tree(int(child))
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of processes and all that they have started, all threads, those that have ended too."""
    total = 0
    for root in pids:
        for pid in tree(root):
            if fields := _stat(pid):
                total += int(fields[11]) + int(fields[12])
    return total * TICK


def on_cpu_seconds(pid: int) -> float:
    """On-CPU time of a process and all that it has started, to the nanosecond: `cpu_seconds` counts in steps of 10 ms.

    Only of threads that are there still.
    """
    tasks = (task for one in tree(pid) for task in Path(f"/proc/{one}/task").iterdir())
    return sum(int((task / "schedstat").read_text(encoding="utf-8").split()[0]) for task in tasks) / 1e9


def resident_mib(pids: Iterable[int]) -> float:
    """Resident memory of processes and all that they have started."""
    page = os.sysconf("SC_PAGE_SIZE")
    fields = [_stat(pid) for root in pids for pid in tree(root)]
    return sum(int(one[21]) for one in fields if one) * page / (1 << 20)
