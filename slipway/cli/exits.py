"""What the exit status of a command says."""

EXIT_FAILED = 1
"""Something failed."""
EXIT_USAGE = 2
"""An argument or a setting is not accepted."""
EXIT_REFUSED = 3
"""All went well and the gate did not let the model through."""
EXIT_CANCELLED = 130
"""Ended by Ctrl-C or SIGTERM, as shells count it."""
