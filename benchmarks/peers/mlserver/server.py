"""MLServer as its guide writes a custom runtime: in the server's own process, with adaptive batching if asked for."""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from mlserver import MLModel
from mlserver.cli import main
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers import common


class Runtime(MLModel):
    """Tensors of a batch to tensors of its answers."""

    async def load(self) -> bool:
        """Load the model."""
        self._model = common.from_environ()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run a batch; adaptive batching has merged the requests into one."""
        (given,) = payload.inputs
        values: Any = StringCodec.decode_input(given) if given.datatype == "BYTES" else NumpyCodec.decode_input(given)
        outputs = self._model.run([self._model.row(value) for value in values])
        encoded = [NumpyCodec.encode_output(name, values) for name, values in outputs.items()]
        if "probabilities" in outputs:
            encoded.append(StringCodec.encode_output("label", self._model.names(outputs)))
        else:
            encoded.append(NumpyCodec.encode_output("anomaly", self._model.anomalies(outputs)))
        return InferenceResponse(model_name=self.name, outputs=encoded)


def serve() -> None:
    """Write the settings that MLServer wants as files, and start it."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "host": "127.0.0.1",
            "http_port": common.port(),
            "grpc_port": int(os.environ["BENCH_PORT_2"]),
            "metrics_port": int(os.environ["BENCH_PORT_3"]),
            "parallel_workers": 0,  # in this process, which is faster on one core than a worker behind a queue
            "debug": False,
            "gzip_enabled": False,
            "metrics_dir": folder,
        }
        model: dict[str, Any] = {"name": "bench", "implementation": "benchmarks.peers.mlserver.server.Runtime"}
        if common.max_batch() > 1:
            model |= {"max_batch_size": common.max_batch(), "max_batch_time": common.wait_ms() / 1e3}
        Path(folder, "settings.json").write_text(json.dumps(settings))
        Path(folder, "model-settings.json").write_text(json.dumps(model))
        sys.argv = ["mlserver", "start", folder]
        main()


if __name__ == "__main__":
    serve()
