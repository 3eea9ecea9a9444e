"""The steps of an audit; `recipes/audit.py` puts them together."""
