"""One trainer, always started by torchrun."""
