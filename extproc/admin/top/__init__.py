"""`infer-gateway top`: what the gateway does right now, in a terminal."""
