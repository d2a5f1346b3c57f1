"""LitServe as its guide writes it: FastAPI in front, and one worker process behind a queue."""

from typing import Any

import litserve

from benchmarks.peers import common


class Inference(litserve.LitAPI):
    """Body to instance, batch to predictions, prediction to body."""

    def setup(self, device: str) -> None:
        """Load the model, in the worker."""
        self._model = common.from_environ()

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # an annotation would become a query parameter
        """Return the one instance of a body."""
        (instance,) = request["instances"]
        return instance

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Leave the batch a list."""
        return inputs

    def predict(self, x: Any) -> Any:
        """Predict for a list of instances where there are batches, for one where there are none."""
        if isinstance(x, list):
            return self._model.predict(x)
        return self._model.predict([x])[0]

    def unbatch(self, output: list[Any]) -> list[Any]:
        """Return one prediction for each instance."""
        return output

    def encode_response(self, output: Any) -> Any:
        """Return the body of the answer."""
        return {"predictions": [output]}


if __name__ == "__main__":
    api = Inference(max_batch_size=common.max_batch(), batch_timeout=common.wait_ms() / 1e3)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1, timeout=60, fast_queue=True)
    server.run(host="127.0.0.1", port=common.port(), num_api_servers=1, generate_client_file=False, log_level="warning")
