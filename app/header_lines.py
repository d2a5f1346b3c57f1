"""Header fields as ASGI has them, in pairs, and as they are written, in lines."""

from collections.abc import Iterable


def as_headers(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Return header lines as ASGI has them."""
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n")[:-1])]


def as_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as they are written."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)
