"""What a caller of ``python -m app bench`` can do wrong."""


class BenchError(Exception):
    """The measurement cannot be made as it was asked for; the message says how to mend it."""
