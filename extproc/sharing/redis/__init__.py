"""The carrier between gateways: a stream in Redis or Valkey."""
