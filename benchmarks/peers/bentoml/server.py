"""BentoML as its guide writes it: a service of one worker, with adaptive batching where batches are asked for."""

from typing import Any

import bentoml

from benchmarks.peers import common

# it refuses what it thinks would not be answered within the latency
_BATCHING: dict[str, Any] = (
    {"batchable": True, "max_batch_size": common.max_batch(), "max_latency_ms": 60_000}
    if common.max_batch() > 1
    else {}
)


@bentoml.service(name="bench", workers=1, threads=1, traffic={"timeout": 60, "max_concurrency": 1024})
class Inference:
    """One model."""

    def __init__(self) -> None:
        self._model = common.from_environ()

    @bentoml.api(**_BATCHING)
    def predict(self, instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return one prediction for each instance, of one request or of many."""
        return self._model.predict(instances)
