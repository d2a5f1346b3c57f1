"""A batch that is larger than one request may be, as parts that are not."""

from collections.abc import Iterable


def split(sizes: Iterable[int], *, max_rows: int, max_bytes: int) -> list[slice]:
    """Return the parts of a batch, in its order, each as full as the limits let it be.

    An instance that is larger than ``max_bytes`` is a part of its own: the service shall say what it thinks of it.

    Args:
        sizes: Bytes of each instance in the body of a request.
        max_rows: Instances of a part, at most.
        max_bytes: Bytes of all instances of a part, at most.
    """
    parts: list[slice] = []
    start, stop, held = 0, 0, 0
    for stop, size in enumerate(sizes, 1):
        is_first = stop - start == 1
        if not is_first and (stop - start > max_rows or held + size > max_bytes):
            parts.append(slice(start, stop - 1))
            start, held = stop - 1, 0
        held += size
    if stop > start:
        parts.append(slice(start, stop))
    return parts


def halves(part: slice) -> list[slice]:
    """Return the two halves of a part of two or more."""
    middle = (part.start + part.stop) // 2
    return [slice(part.start, middle), slice(middle, part.stop)]
