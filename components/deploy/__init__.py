"""The deploy task."""
