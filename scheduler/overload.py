"""When there is no room for requests that may be dropped."""

import numpy as np

from scheduler.config import Bounds
from scheduler.types import Snapshot


def overloaded(pods: Snapshot, bounds: Bounds) -> bool:
    """Whether every pod is over one of the bounds. A pod of which that is not known is not; of no pods, none is."""
    if not pods.pods:
        return False
    over = (pods.waiting >= bounds.waiting) | (pods.kv_usage >= bounds.kv_usage)
    return bool(np.all(over))
