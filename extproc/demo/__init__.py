"""The whole gateway on one machine, with model servers that need no GPU: for a first look, tests and benchmarks."""
