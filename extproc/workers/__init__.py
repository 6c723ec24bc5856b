"""Several processes for one gateway: workers that decide, and one that stands by."""
