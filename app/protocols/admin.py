"""``/admin/models/{model}``: which versions answer and which are loaded; admission asks for an admin's key.

A call is answered once every worker that serves has carried it out, and says what each of them has come to.
"""

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import APIRouter, HTTPException, Path, Request, Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.admission import TICKET, Admission, Ticket
from app.errors import Fault, InvalidInput
from app.protocols.health import VersionState
from app.protocols.openapi import REF, TIMEOUT, problems
from app.protocols.shadow_card import ShadowCard, shadow_card
from app.serving.catalog import Catalog
from app.serving.orders import Outcome
from app.serving.policy import MAX_LABELS, Number, Policy, Shadow
from app.serving.repository import Repository
from app.serving.shadows import Standing
from app.serving.versions import Model
from app.tasks.decoding.faults import expect_few_members, invalid_input
from app.tasks.decoding.strict_json import JsonLimits, parse_json

_LIMITS = JsonLimits(arrays=4, objects=8, members=4 * MAX_LABELS, values=4 * MAX_LABELS)
Body = TypeVar("Body", bound=BaseModel)
_NEITHER = ["GET", "HEAD", "OPTIONS", "PATCH", "POST", "TRACE"]
_TOLD = problems(401, 403, 404, 503)


class Nothing(BaseModel):
    """The body of a call that asks for nothing in particular."""

    model_config = ConfigDict(extra="forbid")


class Promotion(BaseModel):
    """Which shadow is to answer, and what it has to have shown."""

    model_config = ConfigDict(extra="forbid")

    version: Number | None = Field(default=None, description="The shadow; null for the one there is.")
    min_agreement: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="In place of that of the policy."
    )
    min_rows: Number | None = Field(default=None, description="Likewise.")


class WorkerAnswer(BaseModel):
    """What one worker has come to."""

    worker: int
    versions: list[str] = Field(description="Those that it serves now.")
    default: str | None = Field(description="The one that answers there where none is asked for; null: none does.")
    error: str | None = Field(description="What went wrong there with the last command; null where nothing did.")


class VersionAnswer(VersionState):
    """Where one version stands in the worker that was asked."""

    labels: list[str]


class ModelAnswer(BaseModel):
    """What is wished of a model, and what has come of it."""

    name: str
    loaded: bool = Field(description="Whether it is to serve at all.")
    policy: Policy
    history: list[Policy] = Field(description="What can be rolled back to; the last one is the next.")
    versions: dict[str, VersionAnswer]
    comparison: ShadowCard | None = Field(description="How the shadow compares with what answers; null: there is none.")
    workers: list[WorkerAnswer]
    kept: bool = Field(description="Whether it outlives a restart of the service.")
    not_kept_because: str | None


class AllAnswer(BaseModel):
    """What is wished of every model."""

    models: list[ModelAnswer]


def router(
    catalog: Catalog, repository: Repository, admission: Admission, *, clock: Callable[[], float]
) -> APIRouter:  # fmt: skip
    """Return the routes.

    Args:
        catalog: The models.
        repository: Carries out what is asked.
        admission: Reads bodies, and has let nobody this far but an admin.
        clock: That of deadlines.
    """
    key = Security(HTTPBearer(scheme_name="admin_key", description="That of `ZTO_ADMIN_KEY`.", auto_error=False))
    routes = APIRouter(prefix="/admin/models", tags=["admin"], dependencies=[key])
    door = _Door(catalog, repository, admission, clock)
    _add_models(routes, door)
    _add_policies(routes, door)
    _add_shadows(routes, door)
    return routes


class _Door:
    """Reads the calls, and writes the answers; see :func:`router`."""

    def __init__(
        self, catalog: Catalog, repository: Repository, admission: Admission, clock: Callable[[], float]
    ) -> None:  # fmt: skip
        self.repository = repository
        self._catalog = catalog
        self._admission = admission
        self._clock = clock
        # no types of Python's: whatever else is asked for is answered as unknown
        self.named: Any = Path(json_schema_extra={"examples": list(catalog.models)})

    async def admit(self, request: Request, kind: type[Body]) -> tuple[Body, float]:
        """Return the body of a call, and how many seconds its caller waits."""
        ticket: Ticket = request.scope[TICKET]
        body = await self._admission.read_body(ticket, request.receive)
        return _read(body, kind), ticket.deadline - self._clock()

    def answer(self, outcome: Outcome) -> "ModelAnswer":
        """Return what is answered to a call."""
        return _answer(outcome, self._catalog.models[outcome.name], self._catalog.shadows.standing(outcome.name))


def _add_models(routes: APIRouter, door: _Door) -> None:
    named, repository = door.named, door.repository

    @routes.get("", summary="What is wished of every model", responses=problems(401, 403))
    async def every_status(request: Request) -> AllAnswer:
        await door.admit(request, Nothing)
        return AllAnswer(models=[door.answer(repository.standing(name)) for name in repository.names])

    @routes.get("/{model}", summary="What is wished of a model, and what has come of it", responses=_TOLD)
    async def status(request: Request, model: str = named) -> ModelAnswer:
        await door.admit(request, Nothing)
        return door.answer(repository.standing(model))

    @routes.post(
        "/{model}/load", summary="Load what is new on the disk", openapi_extra=_body(Nothing),
        description="New and changed versions are proven and served as the policy says; those that are gone from the "
        "disk are let go, but never one that the policy names.",
        responses=_TOLD | problems(400, 504),
    )  # fmt: skip
    async def load(request: Request, model: str = named) -> ModelAnswer:
        _, within_s = await door.admit(request, Nothing)
        return door.answer(await repository.load(model, within_s=within_s))

    @routes.post(
        "/{model}/unload", summary="Take a model out of rotation", openapi_extra=_body(Nothing),
        description="What waits is still answered; what comes gets 503 `model_not_ready`.",
        responses=_TOLD | problems(400, 504),
    )  # fmt: skip
    async def unload(request: Request, model: str = named) -> ModelAnswer:
        _, within_s = await door.admit(request, Nothing)
        return door.answer(await repository.unload(model, within_s=within_s))


def _add_policies(routes: APIRouter, door: _Door) -> None:
    named, repository = door.named, door.repository

    @routes.put(
        "/{model}/policy", summary="Say which versions answer", openapi_extra=_body(Policy),
        description="Every worker loads what the policy names; then all of them answer by it, or, where one of them "
        "could not, none.",
        responses=_TOLD | problems(400, 422, 504),
    )  # fmt: skip
    async def set_policy(request: Request, model: str = named) -> ModelAnswer:
        policy, within_s = await door.admit(request, Policy)
        return door.answer(await repository.set_policy(model, policy, within_s=within_s))

    @routes.post(
        "/{model}/rollback", summary="Go back to what answered before", openapi_extra=_body(Nothing),
        description="To the policy before, or to the version that answered before the last one was loaded.",
        responses=_TOLD | problems(400, 409, 504),
    )  # fmt: skip
    async def roll_back(request: Request, model: str = named) -> ModelAnswer:
        _, within_s = await door.admit(request, Nothing)
        return door.answer(await repository.roll_back(model, within_s=within_s))


def _add_shadows(routes: APIRouter, door: _Door) -> None:
    named, repository = door.named, door.repository

    @routes.post(
        "/{model}/promote", summary="Let the shadow answer", openapi_extra=_body(Promotion),
        description="It is pinned, and the label `stable` moves to it where there is one; weights end. Refused where "
        "the shadow agrees too little with the version that answers, or was compared too little.",
        responses=_TOLD | problems(400, 409, 422, 504),
    )  # fmt: skip
    async def promote(request: Request, model: str = named) -> ModelAnswer:
        asked, within_s = await door.admit(request, Promotion)
        outcome = await repository.promote(
            model, asked.version, min_agreement=asked.min_agreement, min_rows=asked.min_rows, within_s=within_s
        )
        return door.answer(outcome)

    # of two routes on a path, the first alone would tell what is allowed
    @routes.api_route("/{model}/shadow", methods=_NEITHER, include_in_schema=False)
    async def neither() -> None:
        raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "DELETE, PUT"})

    @routes.put(
        "/{model}/shadow", summary="Give a version a copy of the traffic", openapi_extra=_body(Shadow),
        responses=_TOLD | problems(400, 422, 504),
    )  # fmt: skip
    async def set_shadow(request: Request, model: str = named) -> ModelAnswer:
        shadow, within_s = await door.admit(request, Shadow)
        return door.answer(await repository.set_shadow(model, shadow, within_s=within_s))

    @routes.delete(
        "/{model}/shadow", summary="End the copies", openapi_extra={"parameters": [TIMEOUT]},
        responses=_TOLD | problems(400, 504),
    )  # fmt: skip
    async def end_shadow(request: Request, model: str = named) -> ModelAnswer:
        _, within_s = await door.admit(request, Nothing)
        return door.answer(await repository.set_shadow(model, None, within_s=within_s))


def _answer(outcome: Outcome, model: Model, standing: Standing | None) -> ModelAnswer:
    desired = outcome.desired
    labels = desired.policy.labels
    return ModelAnswer(
        name=outcome.name,
        loaded=desired.loaded,
        policy=desired.policy,
        history=list(desired.history),
        versions={
            str(version.ref.version): VersionAnswer(
                state=version.state.value,
                reason=version.reason or None,
                labels=[label for label, number in labels.items() if number == version.ref.version],
            )
            for version in model.versions
        },
        comparison=shadow_card(standing),
        workers=[
            WorkerAnswer(
                worker=each.worker,
                versions=list(each.ready),
                default=None if each.default is None else str(each.default),
                error=each.error,
            )
            for each in outcome.reached
        ],
        kept=outcome.lasts_because is None,
        not_kept_because=outcome.lasts_because,
    )


def _read(body: bytes, kind: type[Body]) -> Body:
    """Return what a body asks for; an empty one asks for nothing in particular.

    Raises:
        MalformedBody, TooManyValues: The body is no good JSON.
        InvalidInput: It is not what is asked for here; every fault is named.
    """
    document = parse_json(body, _LIMITS) if body.strip() else {}
    expect_few_members(document)
    if not isinstance(document, dict):
        raise InvalidInput(Fault(pointer="#", code="wrong_type", message="expected an object"))
    try:
        # as JSON, or true would pass for 1
        return kind.model_validate_json(json.dumps(document), strict=True)
    except ValidationError as exc:
        raise invalid_input(exc) from exc


def _body(kind: type[BaseModel]) -> dict[str, Any]:
    """Document a body, which may be missing where all of it has defaults."""
    fields = kind.model_fields.values()
    # those that answers hold too are among the components
    is_component = kind in (Policy, Shadow)
    schema = {"$ref": REF.format(model=kind.__name__)} if is_component else kind.model_json_schema()
    return {
        "requestBody": {
            "required": any(field.is_required() for field in fields),
            "content": {"application/json": {"schema": schema}},
        },
        "parameters": [
            TIMEOUT | {"description": "Milliseconds that the caller waits; 504 past it, and the command goes on."}
        ],
    }
