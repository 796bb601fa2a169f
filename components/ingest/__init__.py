"""The ingest task."""
