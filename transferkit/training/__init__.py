"""The engine: optimizer, schedule and the loop."""
