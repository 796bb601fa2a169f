"""What a person needs to know when something does not work: checks, and how to mend what they find."""
