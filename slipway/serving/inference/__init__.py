"""The model in service: loaded, warmed up, answering requests together, swapped for another."""
