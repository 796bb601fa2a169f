"""Metrics, the paired bootstrap, the gate, the report."""
