"""What a network consists of, layer by layer; only `inspect` uses it."""
