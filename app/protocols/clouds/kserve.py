"""KServe's first protocol, TensorFlow Serving's: ``/v1/models``, ``/v1/models/{m}``, ``/v1/models/{m}:predict``.

Errors are ``{"error": "..."}``, and what is wrong with the values of a request is 400, as KServe's own servers have it
(its second protocol is the Open Inference Protocol, a door of its own). Source: "V1 Protocol" in KServe's
documentation, and its Python server.
"""

from http import HTTPStatus

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from app.errors import ModelNotReady, UnknownModel
from app.protocols.manners import IN_PARAMETERS, Headers, Manner
from app.protocols.open_inference import errors as open_inference
from app.protocols.open_inference.errors import ErrorAnswer
from app.serving.catalog import Catalog

DOOR = "v1"
PREFIX = "/v1/models"
VERBS = (":predict", ":explain")


class V1Models(BaseModel):
    """Every model of the service."""

    models: list[str]


class V1Model(BaseModel):
    """Whether a model answers."""

    name: str
    ready: bool


class V1NotReady(V1Model, ErrorAnswer):
    """The model is there, and does not answer."""


class KServe(Manner):
    """KServe's."""

    door = DOOR
    is_platform = True
    naming = IN_PARAMETERS

    def render(self, error: Exception, request_id: bytes) -> tuple[int, Headers, bytes]:
        """Write an error as KServe's clients read it; see :class:`app.protocols.manners.Manner`."""
        return open_inference.render(error, request_id)


def predict_path(model: str) -> str:
    """Return the path that asks a model."""
    return f"{PREFIX}/{model}:predict"


def router(catalog: Catalog) -> APIRouter:
    """Return the routes that predict nothing."""
    routes = APIRouter(tags=[DOOR])

    @routes.get(PREFIX, summary="List the models (KServe V1)")
    async def list_v1_models() -> V1Models:
        return V1Models(models=list(catalog.models))

    @routes.post(f"{PREFIX}/{{model}}:explain", include_in_schema=False)
    async def explain(model: str) -> Response:
        _expect_known(catalog, model)
        message = f"this service explains nothing; ask POST {predict_path(model)}"
        return JSONResponse(ErrorAnswer(error=message).model_dump(), HTTPStatus.NOT_IMPLEMENTED)

    @routes.get(
        f"{PREFIX}/{{model}}",
        response_model=V1Model,
        summary="Does a model answer? (KServe V1)",
        responses=open_inference.responses(404)
        | {503: {"model": V1NotReady, "description": "The model is not ready."}},
    )
    async def v1_model(model: str) -> Response:
        if model.endswith(VERBS):  # a path that is there, and not for this method
            raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST"})
        try:
            catalog.resolve(model)
        except ModelNotReady as exc:
            told = V1NotReady(name=model, ready=False, error=str(exc))
            return JSONResponse(told.model_dump(), HTTPStatus.SERVICE_UNAVAILABLE)
        return JSONResponse(V1Model(name=model, ready=True).model_dump())

    return routes


def _expect_known(catalog: Catalog, model: str) -> None:
    if model not in catalog.models:
        raise UnknownModel(model, tuple(catalog.models))
