"""The preprocess task."""
