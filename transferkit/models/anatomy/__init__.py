"""The anatomy of a network, layer by layer; only the command `inspect` uses it."""
