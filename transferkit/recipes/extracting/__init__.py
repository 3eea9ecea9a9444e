"""The steps of an extraction of features; `recipes/extract_features.py` puts them together."""
