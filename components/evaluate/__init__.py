"""The evaluate task."""
