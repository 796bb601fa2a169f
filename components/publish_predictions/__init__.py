"""The publish_predictions task."""
