"""Slipway's side of each comparison: the product's own code, taking turns with its baseline."""
