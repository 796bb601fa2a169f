"""Slipway's speed beside a plain baseline, measured on this machine: `python -m benchmarks [NAME ...]`."""
