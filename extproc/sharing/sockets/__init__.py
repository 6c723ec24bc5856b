"""The carrier between processes of one gateway: Unix sockets."""
