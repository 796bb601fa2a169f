"""What runs a bundle's model: evaluation, export and serving use the same, so that what is judged is what serves."""
