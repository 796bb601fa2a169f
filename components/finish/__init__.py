"""The finish task."""
