"""Which pod holds which beginning of a prompt: prompts as units of hashed blocks, and an index of them by pod."""
