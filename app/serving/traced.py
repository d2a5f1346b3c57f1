"""What is told of a batch to whoever traces requests."""

from collections.abc import Callable
from typing import TypeAlias

from app.serving.isolation import BatchResult
from app.serving.jobs import Slice
from app.tracing.context import Trace
from app.tracing.facts import BatchFacts
from app.tracing.tracer import Tracer

OnTraced: TypeAlias = Callable[[list[Slice], BatchResult, float], Trace | None]


def batch_tracer(tracer: Tracer, model: str, version: str) -> OnTraced:
    """Return what a batcher tells each batch of a version to; see :class:`app.serving.batcher.Batcher`."""

    def tell(slices: list[Slice], result: BatchResult, taken_at: float) -> Trace | None:
        sampled = [part.job.trace for part in slices if part.job.trace is not None and part.job.trace.is_sampled]
        if not sampled:
            return None
        batch = BatchFacts(
            model=model,
            version=version,
            requests=len(slices),
            rows=sum(part.stop - part.start for part in slices),
            elements=result.elements,
            padding_elements=result.padding_elements,
            rejected_rows=len(result.rejected_rows),
            sick_because=result.sick_because,
            compute_s=result.compute_s,
        )
        return tracer.batch(batch, sampled, taken_at=taken_at, started_at=result.started_at)

    return tell
