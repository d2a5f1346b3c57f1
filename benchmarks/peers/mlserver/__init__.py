"""See ``server.py``."""
