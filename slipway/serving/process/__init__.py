"""The predictor as a process: options, life, connections, who may ask."""
