"""Talking to a Kubernetes API server, and reading what it says."""
