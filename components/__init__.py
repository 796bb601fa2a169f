"""The KFP face of each stage."""
