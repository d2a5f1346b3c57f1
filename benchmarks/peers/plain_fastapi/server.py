"""FastAPI as its guide writes it, and as most services are: a typed route, a session, one call for each request.

Two apps, since the guide has two kinds of route: ``async def``, which runs the model on the event loop, and ``def``,
which FastAPI runs on a thread. The model is that of the environment, see :mod:`benchmarks.peers.common`.
"""

from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers import common


class Picture(BaseModel):
    """A picture, 28 rows of 28 numbers."""

    image: list[list[float]]


class Text(BaseModel):
    """A text."""

    text: str


class Pictures(BaseModel):
    """One or more pictures."""

    instances: list[Picture]


class Texts(BaseModel):
    """One or more texts."""

    instances: list[Text]


class Classification(BaseModel):
    """What an instance is."""

    label: str
    index: int
    probability: float
    probabilities: dict[str, float]


class Reconstruction(BaseModel):
    """What is left of a picture."""

    error: float
    anomaly: bool
    code: list[float]


class Classifications(BaseModel):
    """One prediction for each instance."""

    predictions: list[Classification]


class Reconstructions(BaseModel):
    """One prediction for each instance."""

    predictions: list[Reconstruction]


class Service:
    """The work of a route, whichever kind it is."""

    def __init__(self) -> None:
        self._model = model = common.from_environ()
        self.request_type: type[Pictures] | type[Texts] = Texts if model.field == "text" else Pictures
        labels = "probabilities" in model.outputs
        self.response_type: type[Classifications] | type[Reconstructions] = (
            Classifications if labels else Reconstructions
        )

    def predict(self, request: Pictures | Texts) -> Classifications | Reconstructions:
        """Run the model on all instances of a request."""
        rows = [self._model.row(getattr(instance, self._model.field)) for instance in request.instances]
        return self.response_type.model_validate({"predictions": self._model.describe(self._model.run(rows))})


def async_app() -> FastAPI:
    """Build the app whose route is ``async def``."""
    app, service = FastAPI(), Service()
    request_type, response_type = service.request_type, service.response_type

    @app.post("/predict")
    async def predict(request: request_type) -> response_type:  # type: ignore[valid-type]
        return service.predict(request)

    return app


def def_app() -> FastAPI:
    """Build the app whose route is ``def``."""
    app, service = FastAPI(), Service()
    request_type, response_type = service.request_type, service.response_type

    @app.post("/predict")
    def predict(request: request_type) -> response_type:  # type: ignore[valid-type]
        return service.predict(request)

    return app
