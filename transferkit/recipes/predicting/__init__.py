"""The steps of a prediction; `recipes/predict.py` and `predict_on_ray` put them together."""
