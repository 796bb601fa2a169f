"""Sources, validation, splits, the canonical data set."""
