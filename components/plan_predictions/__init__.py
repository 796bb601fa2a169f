"""The plan_predictions task."""
