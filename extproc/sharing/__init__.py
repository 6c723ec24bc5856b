"""State that gateways share: requests in flight, signals, plugins' notes; and the carriers of that state."""
