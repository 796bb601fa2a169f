"""One module a format; the registry picks by URI scheme."""
