"""The work of each pipeline task, cached by content."""
