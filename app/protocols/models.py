"""``GET /models`` and ``GET /models/{model}``: the card, with all that a caller needs to know."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, computed_field

from app.bundle.manifest import Architecture, Artifact, Batching, TaskSettings, TensorSpec, TrainingRecord
from app.errors import UnknownModel
from app.protocols.health import VersionState
from app.protocols.limits import Limits, limits_of
from app.protocols.openapi import problems
from app.protocols.shadow_card import ShadowCard, shadow_card
from app.serving.catalog import Catalog
from app.serving.policy import Policy
from app.serving.tuned import Plan
from app.serving.versions import Model, Version
from app.settings import Settings
from app.tasks import Task, body_types


class ModelSummary(VersionState):
    """One line of the list."""

    name: str
    version: str = Field(description="The version that answers when none is asked for.")
    task: str | None = Field(description="The kind of its task; null where the manifest is not valid.")
    description: str | None
    policy: Policy = Field(description="Which versions answer, and which are loaded.")
    url: str


class ModelList(BaseModel):
    """Every model of the service."""

    models: list[ModelSummary]


class ArtifactCard(Artifact):
    """One artifact, with the key by which `ZTO_BACKEND` asks for it."""

    @computed_field(description="Format and variant: `onnx`, `onnx-int8`.")  # type: ignore[prop-decorator]
    @property
    def key(self) -> str:
        """What tells it from the others of its bundle."""
        return super().key


class TuningCard(BaseModel):
    """What `python -m app tune` changed for this machine."""

    measured_at: str
    overrides: dict[str, Any] = Field(description="What is served otherwise than the manifest says, by name.")
    gain: float = Field(description="Rows a second as tuned, over those with the manifest's own settings.")


class VersionCard(VersionState):
    """One version: where it stands, what serves it, what was measured of it."""

    version: str
    labels: list[str] = Field(description="Names by which a request may ask for it.")
    backend: str | None = Field(description="What serves it; null until it is loaded.")
    device: str | None = Field(description="Where it computes: `cpu` or `cuda`.")
    runs_on: str | None = Field(description="Where its batches run: `loop` or `thread`.")
    warm_up_batch_ms: float | None = Field(description="Milliseconds of a full batch here, measured in the warm-up.")
    predicted_row_ms: float | None = Field(
        description="Milliseconds that a batch of one row is expected to take (of a usual length, where rows have "
        "lengths); corrected by every batch that runs."
    )
    predicted_batch_ms: float | None = Field(description="The same of a full batch.")
    architecture: Architecture | None
    artifacts: tuple[ArtifactCard, ...]
    batching: Batching | None
    tuning: TuningCard | None = Field(description="What was tuned for this machine; null where nothing was.")
    tuning_ignored: str | None = Field(description="Why a tuning that is there is not heeded.")
    metrics: dict[str, float]
    training: TrainingRecord | None


class ModelCard(ModelSummary):
    """All that a caller needs to know of a model."""

    model_config = ConfigDict(populate_by_name=True)

    license: str | None
    task_settings: TaskSettings | None = Field(
        description="What an instance may be: sizes, ranges, lengths, most characters and tokens; what is answered: "
        "labels, target, threshold."
    )
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    media_types: tuple[str, ...] = Field(description="What the body of a request may be.")
    conversion: str | None = Field(
        description="What is done to pictures of another size or mode, and to long texts; null for others."
    )
    bytes_layout: str | None = Field(
        description="What a body of `application/octet-stream` holds; null where the model takes none."
    )
    limits: Limits
    request_schema: dict[str, Any] | None
    response_schema: dict[str, Any] | None
    example: dict[str, Any] | None = Field(description="A body that works when it is sent as it stands.")
    versions: list[VersionCard]
    shadow: ShadowCard | None = Field(description="A version that is compared with the one that answers.")


def router(catalog: Catalog, tasks: Mapping[str, Task], settings: Settings) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["models"])

    @routes.get("/models", summary="List the models")
    async def list_models() -> ModelList:
        return ModelList(models=[ModelSummary(**_summary(model)) for model in catalog.models.values()])

    @routes.get("/models/{model}", summary="The card of a model", responses=problems(404))
    async def card(model: str) -> ModelCard:
        if model not in catalog.models:
            raise UnknownModel(model, tuple(catalog.models))
        shadow = shadow_card(catalog.shadows.standing(model))
        return _card(catalog.models[model], tasks.get(model), settings, shadow)

    return routes


def _summary(model: Model) -> dict[str, Any]:
    manifest, version = model.manifest, model.default
    return {
        "name": model.name,
        "version": str(version.ref.version),
        "state": version.state.value,
        "reason": version.reason or None,
        "task": None if manifest is None else manifest.task.kind,
        "description": None if manifest is None else manifest.description,
        "policy": model.policy,
        "url": f"/models/{model.name}",
    }


def _card(model: Model, task: Task | None, settings: Settings, shadow: ShadowCard | None) -> ModelCard:
    manifest = model.manifest
    return ModelCard(
        **_summary(model),
        license=None if manifest is None else manifest.license,
        task_settings=None if manifest is None else manifest.task,
        inputs=() if manifest is None else manifest.inputs,
        outputs=() if manifest is None else manifest.outputs,
        media_types=() if task is None else body_types(task),
        conversion=None if task is None else task.conversion(),
        bytes_layout=None if task is None or task.raw is None else task.raw.describe(),
        limits=limits_of(settings, manifest, task),
        request_schema=None if task is None else task.request_model.model_json_schema(),
        response_schema=None if task is None else task.response_model.model_json_schema(mode="serialization"),
        example=None if task is None else task.example(),
        versions=[_version_card(version, model.policy) for version in model.versions],
        shadow=shadow,
    )


def _version_card(version: Version, policy: Policy) -> VersionCard:
    manifest = None if version.bundle is None else version.bundle.manifest
    return VersionCard(
        version=str(version.ref.version),
        labels=[label for label, number in policy.labels.items() if number == version.ref.version],
        state=version.state.value,
        reason=version.reason or None,
        backend=version.backend_name,
        device=version.device,
        runs_on=version.runs_on,
        warm_up_batch_ms=None if version.batch_s is None else version.batch_s * 1e3,
        predicted_row_ms=None if version.costs is None else version.costs.row_s * 1e3,
        predicted_batch_ms=None if version.costs is None else version.costs.full_s * 1e3,
        architecture=None if manifest is None else manifest.architecture,
        artifacts=() if manifest is None else tuple(ArtifactCard(**dict(a)) for a in manifest.artifacts),
        batching=None if manifest is None else manifest.batching,
        tuning=_tuning_card(version.plan),
        tuning_ignored=None if version.plan is None else version.plan.ignored_because,
        metrics={} if manifest is None else manifest.metrics,
        training=None if manifest is None else manifest.training,
    )


def _tuning_card(plan: Plan | None) -> TuningCard | None:
    if plan is None or plan.tuning is None:
        return None
    tuning = plan.tuning
    return TuningCard(measured_at=tuning.measured_at, overrides=plan.overrides, gain=tuning.gain)
