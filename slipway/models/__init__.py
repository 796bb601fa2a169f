"""Network architectures and the registry that names them."""
