"""The routes of Triton's model repository extension: index, load, unload. Admission asks for an admin's key."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request, Security
from fastapi.security import HTTPBearer

from app.admission import TICKET, Admission, Ticket
from app.protocols.open_inference import errors, repository
from app.protocols.open_inference.types import IndexEntry, RepositoryAnswer
from app.protocols.openapi import TIMEOUT
from app.serving.repository import Repository, Wish

_INDEX = {"ready": {"type": "boolean", "default": False, "description": "Only those that are ready."},
          "repository_name": {"description": "Not heeded: there is one repository."}}  # fmt: skip
_DEPENDENTS = {"type": "boolean", "description": "Not heeded: models do not depend on each other."}
_LOAD = {"parameters": {"type": "object", "additionalProperties": False}}
_UNLOAD = {
    "parameters": {"type": "object", "properties": {"unload_dependents": _DEPENDENTS}, "additionalProperties": False}
}


def add(routes: APIRouter, admission: Admission, models: Repository, named: Any, *, clock: Callable[[], float]) -> None:
    """Add the routes; see :func:`app.protocols.open_inference.routes.router`."""
    key = Security(HTTPBearer(scheme_name="admin_key", description="That of `ZTO_ADMIN_KEY`.", auto_error=False))
    refused = errors.answers(401, 403, 503, 504)

    async def body_of(request: Request) -> tuple[Ticket, bytes]:
        ticket: Ticket = request.scope[TICKET]
        return ticket, await admission.read_body(ticket, request.receive)

    async def carry_out(request: Request, name: str, wish: Wish) -> dict[str, Any]:
        ticket, body = await body_of(request)
        repository.read_command(body, wish)
        reached = await models.command(name, wish, within_s=ticket.deadline - clock())
        return repository.outcome(name, wish, reached)

    @routes.post(
        "/v2/repository/index", summary="List every version of every model", response_model=list[IndexEntry],
        responses=refused, openapi_extra=_body(_INDEX), dependencies=[key],
    )  # fmt: skip
    async def index(request: Request) -> list[dict[str, str]]:
        _, body = await body_of(request)
        return repository.index(models, only_ready=repository.read_index_request(body))

    @routes.post(
        "/v2/repository/models/{model}/load",
        summary="Load a model as it lies on the disk",
        description="Versions that are new there are proven and served, those that are gone are taken down, those that "
        "serve unchanged stay as they are. A version that does not load takes no other one down.",
        response_model=RepositoryAnswer,
        responses=refused | errors.responses(404),
        openapi_extra=_body(_LOAD, timeout=True),
        dependencies=[key],
    )
    async def load(request: Request, model: str = named) -> dict[str, Any]:
        return await carry_out(request, model, "load")

    @routes.post(
        "/v2/repository/models/{model}/unload",
        summary="Take a model out of rotation, and give back what it holds",
        description="What waits is still answered; what comes gets 503 `model_not_ready`.",
        response_model=RepositoryAnswer,
        responses=refused | errors.responses(404),
        openapi_extra=_body(_UNLOAD, timeout=True),
        dependencies=[key],
    )
    async def unload(request: Request, model: str = named) -> dict[str, Any]:
        return await carry_out(request, model, "unload")


def _body(properties: Mapping[str, Any], *, timeout: bool = False) -> dict[str, Any]:
    """Document a body, which may be missing."""
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    document: dict[str, Any] = {"requestBody": {"required": False, "content": {"application/json": {"schema": schema}}}}
    if timeout:
        told = "Milliseconds that the caller waits; 504 past it, and the command goes on."
        document["parameters"] = [TIMEOUT | {"description": told}]
    return document
