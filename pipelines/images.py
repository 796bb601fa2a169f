"""The container images of the tasks, each named in this one place."""

REGISTRY = "ghcr.io/slipway"
VERSION = "0.1.0"

PIPELINE = f"{REGISTRY}/slipway-pipeline-python:{VERSION}"
"""Everything but training: no torch."""
TRAINER = f"{REGISTRY}/slipway-trainer-python:{VERSION}"
"""Training and export, on CPU and GPU."""
