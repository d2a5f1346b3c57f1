"""Stacks of the running service, counted by the stage that they belong to."""

from collections import Counter
from collections.abc import Mapping

# by file, and where a file does several things by function; the innermost frame that is listed decides
STAGES: tuple[tuple[str, str], ...] = (
    ("app/tasks/decoding", "JSON to a checked float32 array"),
    ("decode_fast", "JSON to a checked float32 array"),
    ("app/backends", "the model"),
    ("app/tasks", "the answer's predictions"),
    ("app/serving/isolation", "checks of what the model answers"),
    ("app/serving/proof", "checks of what the model answers"),
    ("app/serving", "queue and batches"),
    ("app/tensors", "queue and batches"),
    ("app/metrics", "metrics"),
    ("app/admission", "admission"),
    ("app/protocols", "the door: route, answer, receipts"),
    ("app/main", "the door: route, answer, receipts"),
    ("app/direct", "HTTP: read, parse, write"),
    ("app/wire", "HTTP: read, parse, write"),
    ("uvicorn/protocols", "HTTP: read, parse, write"),
    ("app/server", "event loop and system calls"),
    ("uvicorn/", "event loop and system calls"),
    ("asyncio/", "event loop and system calls"),
)
OTHER = "elsewhere"


def attribute(stacks: Mapping[str, int]) -> list[tuple[str, float]]:
    """Return the share of each stage in all samples, the greatest first.

    Args:
        stacks: Counts of stacks, each with its outermost frame first, ``function (file)``, parted by ``;``.
    """
    shares: Counter[str] = Counter()
    for stack, count in stacks.items():
        shares[_stage(stack)] += count
    total = sum(shares.values())
    return [(stage, count / total) for stage, count in shares.most_common()]


def _stage(stack: str) -> str:
    for frame in reversed(stack.split(";")):
        for part, stage in STAGES:
            if part in frame:
                return stage
    return OTHER
