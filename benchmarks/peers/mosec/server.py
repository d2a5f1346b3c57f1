"""mosec as its guide writes it: a Rust front, and one worker process; or with orjson in place of its own JSON."""

import os
import sys
from typing import Any

import orjson
from mosec import Server, Worker

from benchmarks.peers import common


class Inference(Worker):
    """The one stage: body to instance, batch to predictions, prediction to body."""

    def __init__(self) -> None:
        super().__init__()
        self._model = common.from_environ()

    def deserialize(self, data: bytes) -> Any:
        """Return the one instance of a body."""
        (instance,) = super().deserialize(data)["instances"]
        return instance

    def forward(self, data: Any) -> Any:
        """Predict for a list of instances where there are batches, for one where there are none."""
        if isinstance(data, list):
            return self._model.predict(data)
        return self._model.predict([data])[0]

    def serialize(self, data: Any) -> bytes:
        """Return the body of the answer."""
        return super().serialize({"predictions": [data]})


class FastJson(Inference):
    """The same with another JSON."""

    def deserialize(self, data: bytes) -> Any:
        """Return the one instance of a body."""
        (instance,) = orjson.loads(data)["instances"]
        return instance

    def serialize(self, data: Any) -> bytes:
        """Return the body of the answer."""
        return orjson.dumps({"predictions": [data]})


if __name__ == "__main__":
    sys.argv[1:] = [f"--port={common.port()}", "--address=127.0.0.1", "--timeout=60000", "--log-level=warning"]
    worker = FastJson if "BENCH_ORJSON" in os.environ else Inference
    server = Server()
    # 0 would mean its default of 10 ms
    server.append_worker(worker, max_batch_size=common.max_batch(), max_wait_time=max(1, round(common.wait_ms())))
    server.run()
