"""The routes of the Open Inference Protocol beside inference: health, metadata, configuration, statistics, repository.

Health is told twice. Triton's clients look at the status alone and the protocol's at the body, ``{"live": true}``; so
the body is there, and where the answer is no, the status is 503 and the body says why.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel
from starlette.responses import JSONResponse

from app import errors
from app.admission import Admission
from app.metrics import Metrics
from app.protocols.open_inference import describe, repository_routes
from app.protocols.open_inference.errors import answers
from app.protocols.open_inference.statistics import model_statistics
from app.protocols.open_inference.types import (
    ModelConfig,
    ModelMetadata,
    ModelNotReady,
    ModelReady,
    ModelStatistics,
    ServerLive,
    ServerMetadata,
    ServerNotReady,
    ServerReady,
)
from app.protocols.openapi import ASKED_VERSION, headers_of
from app.serving.catalog import Catalog
from app.serving.repository import Repository
from app.settings import Settings
from app.tasks import Task

_RETRY = {"retry-after": "1"}


def router(
    catalog: Catalog,
    tasks: Mapping[str, Task],
    settings: Settings,
    metrics: Metrics,
    admission: Admission,
    models: Repository,
    *,
    clock: Callable[[], float],
) -> APIRouter:
    """Return the routes, those of the repository included.

    Args:
        catalog: The models.
        tasks: By name of the model; more may come.
        settings: Of the service.
        metrics: What is counted.
        admission: Knows the admin key, and whether the service is leaving.
        models: Carries out commands.
        clock: That of deadlines.
    """
    routes = APIRouter(tags=["open inference"])
    # no types of Python's: whatever else is asked for is answered as unknown
    named = Path(json_schema_extra={"enum": list(catalog.models)})
    numbered = Path(json_schema_extra=ASKED_VERSION | {"examples": ["1"]})
    _add_health(routes, catalog, admission)
    _add_readiness(routes, catalog, named, numbered)
    _add_statistics(routes, catalog, metrics, named, numbered)
    _add_descriptions(routes, catalog, tasks, settings, named, numbered)
    repository_routes.add(routes, admission, models, named, clock=clock)
    return routes


def _add_health(routes: APIRouter, catalog: Catalog, admission: Admission) -> None:
    @routes.head("/v2/health/live", include_in_schema=False)
    @routes.get("/v2/health/live", summary="Is the event loop turning?", responses=answers())
    async def live() -> ServerLive:
        return ServerLive()

    @routes.head("/v2/health/ready", include_in_schema=False, response_model=ServerReady)
    @routes.get(
        "/v2/health/ready",
        summary="Is every required model ready?",
        response_model=ServerReady,
        responses=answers() | _unready(ServerNotReady, "One is not."),
    )
    async def ready() -> ServerReady | Response:
        if admission.is_draining:
            return _not_ready(ServerNotReady(error="the service is leaving"))
        if catalog.is_ready:
            return ServerReady()
        waiting = [name for name in catalog.required if not catalog.is_model_ready(name)]
        return _not_ready(ServerNotReady(error=f"not ready: {', '.join(waiting)}; /readyz says why"))


def _add_readiness(routes: APIRouter, catalog: Catalog, named: Any, numbered: Any) -> None:
    documented: dict[str, Any] = {
        "response_model": ModelReady,
        "responses": answers(404) | _unready(ModelNotReady, "It does not."),
    }

    @routes.head("/v2/models/{model}/ready", include_in_schema=False, response_model=ModelReady)
    @routes.get("/v2/models/{model}/ready", summary="Does a model answer?", **documented)
    async def model_ready(model: str = named) -> ModelReady | Response:
        return _model_ready(catalog, model, None)

    @routes.head("/v2/models/{model}/versions/{version}/ready", include_in_schema=False, response_model=ModelReady)
    @routes.get("/v2/models/{model}/versions/{version}/ready", summary="Does a version answer?", **documented)
    async def version_ready(model: str = named, version: str = numbered) -> ModelReady | Response:
        return _model_ready(catalog, model, version)


def _unready(answer: type[BaseModel], description: str) -> dict[int | str, dict[str, Any]]:
    return {503: {"model": answer, "description": description, "headers": headers_of(503)}}


def _model_ready(catalog: Catalog, model: str, version: str | None) -> ModelReady | Response:
    try:
        catalog.resolve(model, version)
    except errors.ModelNotReady as exc:
        return _not_ready(ModelNotReady(name=model, error=str(exc)))
    return ModelReady(name=model)


def _not_ready(answer: BaseModel) -> Response:
    return JSONResponse(answer.model_dump(), 503, _RETRY)


def _add_statistics(routes: APIRouter, catalog: Catalog, metrics: Metrics, named: Any, numbered: Any) -> None:
    known = answers(404)

    # before the paths of single models, or it would be one of them
    @routes.get(
        "/v2/models/stats", summary="Statistics of every model", response_model=ModelStatistics, responses=answers()
    )
    async def all_statistics() -> dict[str, Any]:
        return model_statistics(catalog.models, metrics)

    @routes.get(
        "/v2/models/{model}/stats", summary="Statistics of a model", response_model=ModelStatistics, responses=known
    )
    async def statistics(model: str = named) -> dict[str, Any]:
        return model_statistics(catalog.models, metrics, model)

    @routes.get(
        "/v2/models/{model}/versions/{version}/stats", summary="Statistics of a version",
        response_model=ModelStatistics, responses=known,
    )  # fmt: skip
    async def version_statistics(model: str = named, version: str = numbered) -> dict[str, Any]:
        return model_statistics(catalog.models, metrics, model, version)


def _add_descriptions(
    routes: APIRouter, catalog: Catalog, tasks: Mapping[str, Task], settings: Settings, named: Any, numbered: Any
) -> None:
    refused = answers(404, 503)

    @routes.get("/v2/", include_in_schema=False)
    @routes.get("/v2", summary="The service and its extensions", response_model=ServerMetadata, responses=answers())
    async def server_metadata() -> dict[str, Any]:
        return describe.server_metadata()

    @routes.get("/v2/models/{model}", summary="A model", response_model=ModelMetadata, responses=refused)
    async def model_metadata(model: str = named) -> dict[str, Any]:
        found = catalog.resolve(model)
        return describe.model_metadata(catalog.models[model], found)

    @routes.get(
        "/v2/models/{model}/versions/{version}", summary="A version", response_model=ModelMetadata, responses=refused
    )
    async def version_metadata(model: str = named, version: str = numbered) -> dict[str, Any]:
        found = catalog.resolve(model, version)
        return describe.model_metadata(catalog.models[model], found)

    @routes.get(
        "/v2/models/{model}/config", summary="The configuration of a model", response_model=ModelConfig,
        responses=refused,
    )  # fmt: skip
    async def config(model: str = named) -> dict[str, Any]:
        return describe.model_config(catalog.resolve(model), tasks[model], settings)

    @routes.get(
        "/v2/models/{model}/versions/{version}/config", summary="The configuration of a version",
        response_model=ModelConfig, responses=refused,
    )  # fmt: skip
    async def version_config(model: str = named, version: str = numbered) -> dict[str, Any]:
        return describe.model_config(catalog.resolve(model, version), tasks[model], settings)
