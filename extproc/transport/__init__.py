"""How the bytes of ext_proc streams reach a session."""
