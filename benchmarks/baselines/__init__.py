"""What a good engineer writes in an afternoon with torchvision, and nothing of Slipway in it but the taking of turns."""
