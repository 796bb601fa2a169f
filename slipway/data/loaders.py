"""Batches, gathered whole from mapped arrays. Needs numpy and torch alone."""
