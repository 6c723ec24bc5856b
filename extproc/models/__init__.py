"""The models API: which names clients may ask for, answered by the gateway itself."""
