"""How training processes are started."""
