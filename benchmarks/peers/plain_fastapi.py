"""FastAPI as its guide writes it, and as most services are: a typed route, a session, one call for each request.

Two apps, since the guide has two kinds of route: ``async def``, which runs the model on the event loop, and ``def``,
which FastAPI runs on a thread. The bundle is ``BENCH_BUNDLE``, a folder with ``manifest.json`` and ``model.onnx``.
"""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel


class Instance(BaseModel):
    """A picture, 28 rows of 28 numbers."""

    image: list[list[float]]


class PredictRequest(BaseModel):
    """One or more pictures."""

    instances: list[Instance]


class Prediction(BaseModel):
    """What is on a picture."""

    label: str
    index: int
    probability: float
    probabilities: dict[str, float]


class PredictResponse(BaseModel):
    """One prediction for each instance."""

    predictions: list[Prediction]


class Classifier:
    """One session with one thread, which is what one core has room for."""

    def __init__(self, bundle: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(bundle / "model.onnx", options, providers=["CPUExecutionProvider"])
        self._labels: list[str] = json.loads((bundle / "manifest.json").read_text())["task"]["labels"]

    def predict(self, request: PredictRequest) -> PredictResponse:
        """Run the model on all instances of a request."""
        pixels_BHW = np.array([instance.image for instance in request.instances], dtype=np.float32)
        (probabilities_BC,) = self._session.run(["probabilities"], {"image": pixels_BHW})
        predictions = []
        for row in probabilities_BC.tolist():
            index = max(range(len(row)), key=row.__getitem__)
            predictions.append(
                Prediction(
                    label=self._labels[index],
                    index=index,
                    probability=row[index],
                    probabilities=dict(zip(self._labels, row, strict=True)),
                )
            )
        return PredictResponse(predictions=predictions)


def async_app() -> FastAPI:
    """Build the app whose route is ``async def``."""
    app, classifier = FastAPI(), Classifier(Path(os.environ["BENCH_BUNDLE"]))

    @app.post("/predict")
    async def predict(request: PredictRequest) -> PredictResponse:
        return classifier.predict(request)

    return app


def def_app() -> FastAPI:
    """Build the app whose route is ``def``."""
    app, classifier = FastAPI(), Classifier(Path(os.environ["BENCH_BUNDLE"]))

    @app.post("/predict")
    def predict(request: PredictRequest) -> PredictResponse:
        return classifier.predict(request)

    return app
