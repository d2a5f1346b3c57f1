"""The context of a trace as W3C writes it, and the ids of new spans.

Source: W3C Trace Context, https://www.w3.org/TR/trace-context/, section 3.2 (``traceparent``).
"""

import random
import re

HEADER = b"traceparent"
_SAMPLED = 0x01
# version, trace, parent, flags; of a later version more may follow behind a dash
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Trace:
    """Where one request, or one batch, stands in a trace.

    Attributes:
        trace_id: 16 bytes in hexadecimal digits, as the log writes it.
        parent_id: The caller's span; 0 where there is none.
        span_id: Its own span; 0 where nothing is exported.
        is_sampled: Whether its spans are exported; before that is decided, whether the caller's are.
        is_told: Whether somebody else exports its own span: FastAPI does, of requests that its routes answer.
    """

    __slots__ = ("is_sampled", "is_told", "parent_id", "span_id", "trace_id")

    def __init__(
        self,
        trace_id: bytes,
        *,
        parent_id: int = 0,
        span_id: int = 0,
        is_sampled: bool = False,
        is_told: bool = False,
    ) -> None:
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.span_id = span_id
        self.is_sampled = is_sampled
        self.is_told = is_told

    @classmethod
    def begin(cls) -> "Trace":
        """Return a trace that nobody has begun yet, without a span."""
        return cls(b"%032x" % new_id(128))


def new_id(bits: int) -> int:
    """Return an id of so many bits, which is never zero. Unique, not secret."""
    while True:
        found = random.getrandbits(bits)
        if found:
            return found


def parse(traceparent: bytes) -> Trace | None:
    """Return what a header says; None where it is not one, since a trace that is broken is begun anew."""
    match = _PARENT.fullmatch(traceparent.strip())
    if match is None:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    is_known = version != b"ff" and (version != b"00" or more is None)
    if not is_known or not int(trace_id, 16) or not int(parent_id, 16):
        return None
    return Trace(trace_id, parent_id=int(parent_id, 16), is_sampled=bool(int(flags, 16) & _SAMPLED))
