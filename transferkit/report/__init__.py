"""Reports of a run and drawings of what a network does: HTML pages, charts and PNG files."""
