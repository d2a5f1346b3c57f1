"""``GET /livez``, ``/startupz`` and ``/readyz``: for whoever restarts the process, waits for it, or sends it traffic.

What they tell is worked out in :mod:`app.serving.lifecycle`.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from fastapi import APIRouter, Response
from pydantic import BaseModel

from app.serving.catalog import Catalog
from app.serving.health import Health
from app.serving.lifecycle import Phase, phase

IsDraining: TypeAlias = Callable[[], bool]


class Live(BaseModel):
    """The event loop turns."""

    status: Literal["live"] = "live"


class Started(BaseModel):
    """Whether every model found at the start has been loaded, or could not be."""

    status: Literal["started", "starting"]


class VersionState(BaseModel):
    """Where one version of a model stands."""

    state: Literal["loading", "proving", "ready", "sick", "failed", "unloading", "unloaded"]
    reason: str | None = None


class ModelState(VersionState):
    """Where a model stands: its best version, and each."""

    version: str
    required: bool
    versions: dict[str, VersionState]


class Readiness(BaseModel):
    """Whether the service wants traffic, and the state of each model either way."""

    status: Phase
    models: dict[str, ModelState]


def readiness(catalog: Catalog, *, is_draining: bool) -> Readiness:
    """Sum up the states of the catalog."""
    models = {}
    for name, model in catalog.models.items():
        best = model.default
        models[name] = ModelState(
            state=best.state.value,
            reason=best.reason or None,
            version=str(best.ref.version),
            required=name in catalog.required and not model.is_unloaded,
            versions={
                str(v.ref.version): VersionState(state=v.state.value, reason=v.reason or None) for v in model.versions
            },
        )
    return Readiness(status=phase(is_ready=catalog.is_ready, is_draining=is_draining), models=models)


def answer_ready(catalog: Catalog, response: Response, *, is_draining: bool) -> Readiness:
    """Return the answer to whoever asks for readiness, and set its status."""
    report = readiness(catalog, is_draining=is_draining)
    if report.status != "ready":
        response.status_code = 503
    return report


def ready_responses() -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route that answers with readiness."""
    return {503: {"model": Readiness, "description": "One is not."}}


def router(catalog: Catalog, watch: Health, *, is_draining: IsDraining) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["health"])

    @routes.head("/livez", include_in_schema=False)  # some load balancers ask so
    @routes.get("/livez", summary="Is the event loop turning?")
    async def livez() -> Live:
        return Live()

    @routes.head("/startupz", include_in_schema=False)
    @routes.get(
        "/startupz",
        summary="Has every model been loaded, or could it not be?",
        responses={503: {"model": Started, "description": "One is still on its way."}},
    )
    async def startupz(response: Response) -> Started:
        if not watch.has_started:
            response.status_code = 503
        return Started(status="started" if watch.has_started else "starting")

    @routes.head("/readyz", include_in_schema=False)
    @routes.get(
        "/readyz",
        summary="Is every required model ready?",
        responses=ready_responses(),
    )
    async def readyz(response: Response) -> Readiness:
        return answer_ready(catalog, response, is_draining=is_draining())

    return routes
