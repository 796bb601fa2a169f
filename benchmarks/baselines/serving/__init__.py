"""General servers around the same network, written as their documentation shows it and run with their defaults."""

DESCRIPTION_VARIABLE = "BENCH_NETWORK"
"""Names the file that describes the network to serve (benchmarks.serving.network)."""
WEIGHTS_NAME = "weights.pt"
"""Beside it: a state dict with the names of torchvision."""
