"""How requests ended: status, timings, token usage, and the pod that served."""
