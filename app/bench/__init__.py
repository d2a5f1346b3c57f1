"""``python -m app bench``: puts a service under load and tells what its callers saw."""
