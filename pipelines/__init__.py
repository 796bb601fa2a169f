"""Pipelines, how they are compiled, run and submitted."""
