"""The predictor's speed beside other servers that serve the same weights."""
