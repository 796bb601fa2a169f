"""What a running predictor tells: figures, a log of requests, traces, and what it was asked and answered."""
