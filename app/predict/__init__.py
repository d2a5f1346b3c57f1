"""``python -m app predict``: asks a running service, or answers whole files without one."""
