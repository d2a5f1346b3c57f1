"""``python -m app admin``: asks a running service which versions answer, and says which shall."""
