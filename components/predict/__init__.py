"""The predict task."""
