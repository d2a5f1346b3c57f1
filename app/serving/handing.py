"""Hands the rows of a batch that ran to whom they belong, and counts them."""

from collections.abc import Callable, Sequence

from app.counts import Statistics
from app.errors import ModelRejectedInput, ServingError
from app.serving.isolation import BatchResult
from app.serving.jobs import Answer, Batch, Job, Slice


def hand_out(
    slices: Sequence[Slice],
    result: BatchResult,
    batch: Batch,
    now: float,
    statistics: Statistics,
    uncounted: Job | None,
    refuse: Callable[[Job, ServingError, float], None],
) -> None:
    """Answer all whose rows were in a batch, in one pass and one entry of the statistics.

    Args:
        slices: Whose rows they are, in the order of the batch.
        result: What became of them.
        batch: What the answers share.
        now: On the batcher's clock.
        statistics: Where answers are counted.
        uncounted: The job that is in no statistics.
        refuse: Answers a job with an error, and counts that.
    """
    input_s, output_s = batch.input_s, batch.output_s
    start = 0
    answered, rows, answered_s, queue_s = 0, 0, 0.0, 0.0
    for job, first, last in slices:  # of the job; start and stop are of the batch
        stop = start + last - first
        if result.rejected_rows and (rejected := [row for row in result.rejected_rows if start <= row < stop]):
            told = f"the model fails on it: {result.rejected_because}"
            refuse(job, ModelRejectedInput(told, rows=job.rows_of_caller(row - start + first for row in rejected)), now)
        elif stop - start == job.rows:
            if job.finish(Answer(batch, start, stop, job.queue_s)) and job is not uncounted:
                answered += 1
                rows += job.rows
                answered_s += now - job.enqueued_at
                queue_s += job.queue_s
        elif not job.is_done and job.join(first, Answer(batch, start, stop, job.queue_s)):
            seconds = now - job.enqueued_at, job.queue_s, job.input_s, job.compute_s, job.output_s
            statistics.answer(1, job.rows, *seconds)
        start = stop
    if answered:
        seconds = answered_s, queue_s, answered * input_s, answered * result.compute_s, answered * output_s
        statistics.answer(answered, rows, *seconds)
