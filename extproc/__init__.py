"""The Envoy side of infer-gateway: an ext_proc server that tells Envoy which model server gets a request."""

__version__ = "0.1.0"
