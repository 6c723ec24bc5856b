"""Our HTTP/2 server for gRPC: a connection without I/O, and the asyncio server around it."""
