"""Content codings: gzip and deflate, of the bodies that come and of the answers that go (RFC 9110, section 8.4).

Whoever sends a megabyte may mean a gigabyte, so a body is inflated piece by piece and counted as it grows: what is too
large is given up at the limit, and no byte beyond it ever takes memory. zlib checks what it reads: the sums at the end
(RFC 1950, RFC 1952), and that there is an end.
"""

import zlib
from collections.abc import Callable
from typing import NamedTuple

from app.errors import BodyTooLarge, MalformedBody, UnsupportedEncoding

GZIP, DEFLATE = b"gzip", b"deflate"
CODINGS = (GZIP, DEFLATE)
# as some old clients call it (RFC 9110, section 8.4.1.3)
_ALIASES = {b"x-gzip": GZIP}
_IDENTITY = b"identity"

# numbers in JSON come to half their size at 120 MB/s; the default level saves 2 to 6% more at a sixth of the speed
LEVEL = 1
# zlib's numbers for the form around the stream: the gzip of RFC 1952, the zlib of RFC 1950, nothing
_WBITS = {GZIP: 16 + zlib.MAX_WBITS, DEFLATE: zlib.MAX_WBITS}
_RAW_WBITS = -zlib.MAX_WBITS

# of what a stream has left over, zlib makes a copy: pieces keep many short members from being copied again and again
_PIECE_IN_BYTES = 16 * 1024
# so large that the allocator gives them back at once: see app/memory.py
_PIECE_OUT_BYTES = 256 * 1024

# bytes have patterns or none: what these of the middle come to tells whether the rest is worth its time
_SAMPLE_BYTES = 2048
_WORTH_IT = 0.8
_BYTES = b"application/octet-stream"

MAX_ACCEPT_BYTES = 256


def read_content_encoding(value: bytes) -> bytes:
    """Return the one coding that a ``Content-Encoding`` names; empty for none.

    Raises:
        UnsupportedEncoding: It names another, or more than one.
    """
    names = [name for part in value.split(b",") if (name := part.strip().lower()) not in (b"", _IDENTITY)]
    if len(names) > 1:
        raise UnsupportedEncoding(
            f"the body is encoded {len(names)} times, as {_quoted(value)}; encode it once, as gzip or deflate, or send "
            "it as it is"
        )
    if not names:
        return b""
    name = _ALIASES.get(names[0], names[0])
    if name not in CODINGS:
        raise UnsupportedEncoding(
            f"the body is encoded as {_quoted(value)}; gzip and deflate are read, or send it as it is"
        )
    return name


class Inflater:
    """One encoded body, inflated as far as one likes.

    Args:
        coding: Of :data:`CODINGS`. A gzip may have several members, one after another; a deflate may lack the zlib
            form around it, as many clients send it.
        body: The whole of it, encoded.
        limit_bytes: That the inflated body may have.
        count: Told of each piece's bytes before it is kept; may raise.
    """

    def __init__(self, coding: bytes, body: bytes, *, limit_bytes: int, count: Callable[[int], None]) -> None:
        self._name = coding.decode()
        self._wbits = _RAW_WBITS if coding == DEFLATE and not _is_zlib(body) else _WBITS[coding]
        self._has_members = coding == GZIP
        self._body = memoryview(body)
        self._piece: bytes | memoryview = b""  # of the body, not yet inflated
        self._stream = zlib.decompressobj(self._wbits)
        self._limit_bytes = limit_bytes
        self._count = count
        self._inflated: list[bytes] = []
        self._size = 0

    def advance(self, up_to_bytes: int) -> bytes | None:
        """Inflate.

        Args:
            up_to_bytes: Go no further once there are more of the inflated body.

        Returns:
            The inflated body; None where there may be more of it.

        Raises:
            BodyTooLarge: There are more than the limit.
            MalformedBody: It is not of its coding, cut short, damaged, or followed by something else.
        """
        while self._size <= up_to_bytes:
            self._take_piece()
            if self._stream.eof:
                if not self._piece:
                    return b"".join(self._inflated)
                self._expect_another_member()
            self._keep(self._step(min(_PIECE_OUT_BYTES, up_to_bytes + 1 - self._size)))
        return None

    def _take_piece(self) -> None:
        if not self._piece:
            self._piece, self._body = self._body[:_PIECE_IN_BYTES], self._body[_PIECE_IN_BYTES:]

    def _expect_another_member(self) -> None:
        if not self._has_members:
            raise MalformedBody(f"the body goes on behind the end of its {self._name}")
        self._stream = zlib.decompressobj(self._wbits)

    def _step(self, max_bytes: int) -> bytes:
        had = len(self._piece)
        try:
            inflated = self._stream.decompress(self._piece, max_bytes)
        except zlib.error as exc:
            reason = str(exc).rpartition(": ")[2]
            raise MalformedBody(
                f"the body is no {self._name}, as its Content-Encoding says, or damaged: {reason}"
            ) from exc
        self._piece = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        if not had and not inflated and not self._stream.eof:
            raise MalformedBody(f"the body is cut short: its {self._name} has no end")
        return inflated

    def _keep(self, inflated: bytes) -> None:
        if inflated:
            self._size += len(inflated)
            if self._size > self._limit_bytes:
                raise BodyTooLarge(self._limit_bytes, inflated=True)
            self._count(len(inflated))
            self._inflated.append(inflated)


def _is_zlib(body: bytes) -> bool:
    """Tell the zlib form from a bare stream, by its first two bytes (RFC 1950, section 2.2).

    No encoder begins a bare stream like this: it would be a stored block with ones for padding.
    """
    return len(body) >= 2 and body[0] & 0x0F == zlib.DEFLATED and (body[0] << 8 | body[1]) % 31 == 0


class Acceptable(NamedTuple):
    """How an answer may be encoded.

    Attributes:
        header: The ``Accept-Encoding`` that says so.
        coding: The one to take; empty for none.
        must_encode: Whether an answer as it is would not be acceptable.
    """

    header: bytes
    coding: bytes = b""
    must_encode: bool = False


def read_accept_encoding(header: bytes) -> Acceptable:
    """Return how an answer may be encoded (RFC 9110, section 12.5.3). Never raises: what makes no sense is passed over.

    Where it is preferred, or nothing that is written here is acceptable, an answer goes as it is.
    """
    if len(header) > MAX_ACCEPT_BYTES:
        return Acceptable(header)
    weights: dict[bytes, float] = {}
    for part in header.split(b","):
        name, _, parameters = part.partition(b";")
        name = name.strip().lower()
        weight = _read_weight(parameters)
        if name and weight is not None:
            weights[_ALIASES.get(name, name)] = weight
    others = weights.get(b"*", 0.0)
    coding = max(CODINGS, key=lambda name: weights.get(name, others))  # the first of equals
    weight = weights.get(coding, others)
    is_identity_refused = weights.get(_IDENTITY, weights.get(b"*", 1.0)) == 0
    if weight == 0 or weight < weights.get(_IDENTITY, 0.0):
        return Acceptable(header)
    return Acceptable(header, coding, is_identity_refused)


def _read_weight(parameters: bytes) -> float | None:
    """Return the ``q`` of an entry; None where it is none."""
    if not parameters.strip():
        return 1.0
    name, _, value = parameters.partition(b"=")
    try:
        weight = float(value) if name.strip().lower() == b"q" else -1.0
    except ValueError:
        return None
    return weight if 0.0 <= weight <= 1.0 else None


def encode(body: bytes, media_type: bytes, acceptable: Acceptable) -> bytes | None:
    """Return an encoded answer; None where it goes better as it is, and may."""
    if not acceptable.must_encode and media_type == _BYTES and not _is_worth_it(body):
        return None
    encoded = zlib.compress(body, LEVEL, _WBITS[acceptable.coding])
    return encoded if acceptable.must_encode or len(encoded) < len(body) else None


def _is_worth_it(body: bytes) -> bool:
    start = max(0, (len(body) - _SAMPLE_BYTES) // 2)
    sample = body[start : start + _SAMPLE_BYTES]
    return len(zlib.compress(sample, LEVEL, _RAW_WBITS)) < _WORTH_IT * len(sample)


def _quoted(value: bytes) -> str:
    return repr(value.decode("latin-1")[:32])
