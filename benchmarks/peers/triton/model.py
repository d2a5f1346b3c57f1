"""The model behind Triton's Python backend, which starts it as a process of its own."""

import os
import sys
from typing import Any

# the stub looks into no virtual environment, nor at PYTHONPATH
sys.path[:0] = os.environ["BENCH_MODULES"].split(os.pathsep)

import numpy as np  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402

from benchmarks.peers import common  # noqa: E402


class TritonPythonModel:
    """Requests that Triton has batched, to a response each."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model."""
        self._model = common.from_environ()

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run the rows of all requests as one batch."""
        rows = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, self._model.field).as_numpy()
            if values.dtype == object:
                rows += [self._model.row(text.decode()) for text in values[:, 0]]
            else:
                rows += list(values)
        outputs: dict[str, Any] = dict(self._model.run(rows))
        if self._model.is_bare:
            pass
        elif "probabilities" in outputs:
            outputs["label"] = np.array(self._model.names(outputs), dtype=object)[:, None]
        else:
            outputs["anomaly"] = self._model.anomalies(outputs)[:, None]
            outputs["error"] = outputs["error"][:, None]
        # each request has one row: that is what is asked here
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, values[number : number + 1]) for name, values in outputs.items()]
            )
            for number in range(len(requests))
        ]
