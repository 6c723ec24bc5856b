"""What gateways know alike: requests in flight, signals, what plugins note; and the carriers of it."""
