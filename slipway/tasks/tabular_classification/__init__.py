"""One label for each row of a table."""
