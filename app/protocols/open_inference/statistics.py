"""Triton's statistics extension: what was asked of each version of a model, and what that took.

All numbers are sums since the start, over all workers. Where nothing is measured, nothing is told: there is no cache of
answers, so its two entries stand at zero; memory is the platform's to tell.

As in Triton, a batch counts in ``inference_stats`` once for each request that was in it, and in ``batch_stats`` once.
The stages of a request follow one another: ``queue``, until its first row is taken; ``compute_input``, until the call,
in which the batch is put together; ``compute_infer``, the call and the check of what it returned; ``compute_output``,
until the answers are given out. ``success`` is from the queue's door to there, which for a request of more rows than a
batch holds is more than the sum of the stages. ``fail`` counts requests that were refused for want of room or time, and
those that the model or the deadline failed once they were queued; a request that is no good for the model never comes
so far, and a caller who hangs up is in neither. An execution in which single rows failed is counted.
"""

from collections.abc import Mapping
from typing import Any

from app.counts import BatchSums, Statistics
from app.errors import UnknownModel, UnknownVersion
from app.metrics import Metrics
from app.serving.versions import Model


def model_statistics(
    models: Mapping[str, Model], metrics: Metrics, name: str | None = None, version: str | None = None
) -> dict[str, Any]:
    """Return the statistics of every version of every model, or of those asked for.

    Args:
        models: By name.
        metrics: Of this process, which has those of the others told to it.
        name: Of the model; None for all.
        version: Of that model, by number or label; None for all.

    Raises:
        UnknownModel: No model of that name.
        UnknownVersion: The model has no such version.
    """
    if name is not None and name not in models:
        raise UnknownModel(name, tuple(models))
    asked = models.values() if name is None else (models[name],)
    versions = [each for model in asked for each in model.versions]
    if name is not None and version is not None:
        named = models[name].named(version)
        if named is None:
            raise UnknownVersion(name, version, models[name].names)
        versions = [named]
    found = [(each.ref.name, str(each.ref.version)) for each in versions]
    counted = metrics.total().statistics
    return {"model_stats": [_told(*key, counted.get(key) or Statistics()) for key in found]}


def _told(name: str, version: str, counted: Statistics) -> dict[str, Any]:
    requests = counted.answered
    return {
        "name": name,
        "version": version,
        "last_inference": int(counted.last_batch_at * 1e3),
        "inference_count": counted.rows,
        "execution_count": sum(sums.batches for sums in counted.by_rows.values()),
        "inference_stats": {
            "success": _duration(requests, counted.answered_s),
            "fail": _duration(counted.failed, counted.failed_s),
            "queue": _duration(requests, counted.queue_s),
            "compute_input": _duration(requests, counted.input_s),
            "compute_infer": _duration(requests, counted.compute_s),
            "compute_output": _duration(requests, counted.output_s),
            "cache_hit": _duration(0, 0.0),
            "cache_miss": _duration(0, 0.0),
        },
        "batch_stats": [_batches(rows, sums) for rows, sums in sorted(counted.by_rows.items())],
    }


def _batches(rows: int, sums: BatchSums) -> dict[str, Any]:
    return {
        "batch_size": rows,
        "compute_input": _duration(sums.batches, sums.input_s),
        "compute_infer": _duration(sums.batches, sums.compute_s),
        "compute_output": _duration(sums.batches, sums.output_s),
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}
