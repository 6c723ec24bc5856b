"""The sections of the configuration, one a file: every key with its default, range and meaning."""
