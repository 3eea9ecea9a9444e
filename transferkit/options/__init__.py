"""The options of all commands, each declared once, and read back from a run."""
