"""From a gated bundle to a serving version."""
