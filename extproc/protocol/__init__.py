"""One ext_proc stream without I/O: events in, replies out, and the state machine between them."""
