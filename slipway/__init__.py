"""Slipway: from a data set to a gated, registered, served model."""

__version__ = "0.1.0"
