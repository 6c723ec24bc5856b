"""What a process of the gateway is: its log, signals, sockets and build."""
