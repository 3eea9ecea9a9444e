"""The steps of a fine-tuning run; `recipes/finetune.py` puts them together."""
