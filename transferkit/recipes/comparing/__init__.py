"""What a comparison consists of; `recipes/compare.py` puts it together."""
