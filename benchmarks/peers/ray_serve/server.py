"""Ray Serve as its guide writes it: one replica behind its proxy, with ``serve.batch`` where batches are asked for."""

import os
import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from benchmarks.peers import common


@serve.deployment(num_replicas=1, max_ongoing_requests=1024, ray_actor_options={"num_cpus": 0.5})
class Inference:
    """One model."""

    def __init__(self) -> None:
        self._model = common.from_environ()

    @serve.batch(max_batch_size=common.max_batch(), batch_wait_timeout_s=common.wait_ms() / 1e3)
    async def _batch(self, instances: list[Any]) -> list[Any]:
        return self._model.predict(instances)

    async def __call__(self, request: Request) -> JSONResponse:
        """Answer one request."""
        (instance,) = (await request.json())["instances"]
        prediction = await self._batch(instance) if common.max_batch() > 1 else self._model.predict([instance])[0]
        return JSONResponse({"predictions": [prediction]})


def _serve() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # by the way of an exception, which ends its processes too
    variables = {
        name: value for name, value in os.environ.items() if name.startswith(("BENCH_", "RAY_SERVE_", "PYTHONPATH"))
    }
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        runtime_env={"env_vars": variables},
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": common.port(), "access_log": False})
        serve.run(Inference.bind(), route_prefix="/predict", logging_config={"enable_access_log": False})
        print("ready", flush=True)
        signal.pause()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    _serve()
