"""The steps of a comparison; `recipes/compare.py` puts them together."""
