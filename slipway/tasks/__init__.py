"""What differs between kinds of problem."""
