"""Predictions for a whole folder or file: planned once, made shard by shard, each written once."""
