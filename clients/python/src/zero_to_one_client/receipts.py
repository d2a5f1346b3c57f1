"""What every answer carries beside its body."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_ENTRY = re.compile(r'(\w+)(?:;dur=([0-9]+(?:\.[0-9]+)?)|;desc="rows=([0-9]{1,18})")')


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Where the service spent its time (``Server-Timing``).

    Attributes:
        parse_ms: Milliseconds from the head of the request to its place in the queue.
        queue_ms: Milliseconds until its first row was taken.
        compute_ms: Milliseconds of the batches that its rows ran in.
        batch_rows: Rows of the last of these, its own and others'.
    """

    parse_ms: float
    queue_ms: float
    compute_ms: float
    batch_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Of one answer of the service.

    Attributes:
        request_id: By which the service's log knows the request.
        version: Of the model that answered.
        timing: None where the service told none.
        rows: Instances of the request.
        tries: How often it was sent; 1 where the first answer was good.
    """

    request_id: str
    version: str
    timing: Timing | None
    rows: int
    tries: int

    @classmethod
    def of(cls, headers: Mapping[str, str], *, version: str, rows: int, tries: int) -> "Receipt":
        """Return what the headers of an answer tell.

        Args:
            headers: By their names in small letters.
            version: That of the body, where the headers tell none.
            rows: Instances of the request.
            tries: How often it was sent.
        """
        return cls(
            request_id=headers.get("x-request-id", ""),
            version=headers.get("x-model-version", version),
            timing=_timing(headers.get("server-timing", "")),
            rows=rows,
            tries=tries,
        )


def _timing(header: str) -> Timing | None:
    found = {name: duration or rows for name, duration, rows in _ENTRY.findall(header)}
    if not {"parse", "queue", "compute", "batch"} <= found.keys():
        return None
    return Timing(
        parse_ms=float(found["parse"]),
        queue_ms=float(found["queue"]),
        compute_ms=float(found["compute"]),
        batch_rows=int(found["batch"]),
    )
