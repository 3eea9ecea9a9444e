"""The steps of an export."""
