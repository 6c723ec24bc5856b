"""One request's way through the sidecar: pipeline, flight, and what changes in headers and bodies."""
