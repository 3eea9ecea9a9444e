"""The folder of a run, its records and its times."""
