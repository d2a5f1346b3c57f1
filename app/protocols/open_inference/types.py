"""What the paths of the Open Inference Protocol beside inference answer with, as OpenAPI documents it."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.protocols.open_inference.errors import ErrorAnswer

_Count = Annotated[int, Field(ge=0)]


class ServerLive(BaseModel):
    """The event loop turns."""

    live: Literal[True] = True


class ServerReady(BaseModel):
    """Every required model is ready."""

    ready: Literal[True] = True


class ServerNotReady(ErrorAnswer):
    """Not every required model is ready, or the service is leaving."""

    ready: Literal[False] = False


class ModelReady(BaseModel):
    """A model, or one version of it, answers."""

    name: str
    ready: Literal[True] = True


class ModelNotReady(ErrorAnswer):
    """It does not."""

    name: str
    ready: Literal[False] = False


class ServerMetadata(BaseModel):
    """The service, and the extensions of the protocol that it has."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """An input or an output; -1 stands for an axis of any length, the first is the batch."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """A model, and its versions that are ready."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ConfiguredOutput(BaseModel):
    """An output, without the axis of the batch."""

    name: str
    data_type: str
    dims: list[int]


class ConfiguredInput(ConfiguredOutput):
    """An input, without the axis of the batch."""

    format: str
    optional: bool = Field(description="True of a text or picture that stands for all others.")


class InstanceGroup(BaseModel):
    """Where a model computes, and how often it is there."""

    name: str
    kind: Literal["KIND_CPU", "KIND_GPU"]
    count: int
    gpus: list[int]


class DynamicBatching(BaseModel):
    """How requests come together."""

    preferred_batch_size: list[int]
    max_queue_delay_microseconds: _Count


class StringParameter(BaseModel):
    """The value of a parameter."""

    string_value: str


class ModelConfig(BaseModel):
    """Triton's configuration of a model, as far as there is a counterpart."""

    name: str
    platform: str
    backend: str
    version_policy: dict[Literal["all"], dict[str, str]]
    max_batch_size: int = Field(description="Rows of one call of the runtime; larger requests run in several.")
    input: list[ConfiguredInput]
    output: list[ConfiguredOutput]
    instance_group: list[InstanceGroup]
    default_model_filename: str
    dynamic_batching: DynamicBatching
    parameters: dict[str, StringParameter] = Field(description="The task, its labels, the natural input.")


class Duration(BaseModel):
    """How often, and how many nanoseconds in all."""

    count: _Count
    ns: _Count


class InferenceStatistics(BaseModel):
    """Sums over requests."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration = Field(description="Zero: there is no cache of answers.")
    cache_miss: Duration = Field(description="Zero: there is no cache of answers.")


class BatchStatistics(BaseModel):
    """Sums over the batches of one size."""

    batch_size: Annotated[int, Field(gt=0)]
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class VersionStatistics(BaseModel):
    """What was asked of one version, and what that took, over all workers."""

    name: str
    version: str
    last_inference: _Count = Field(description="Milliseconds since the epoch; 0 where there was none.")
    inference_count: _Count = Field(description="Rows that were answered.")
    execution_count: _Count = Field(description="Batches that ran.")
    inference_stats: InferenceStatistics
    batch_stats: list[BatchStatistics]


class ModelStatistics(BaseModel):
    """The statistics of every version that is asked for."""

    model_stats: list[VersionStatistics]


class IndexEntry(BaseModel):
    """One version of a model, loaded or not."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]
    reason: str


class WorkerReached(BaseModel):
    """How one worker came out of a command."""

    worker: _Count
    versions: list[str] = Field(description="Those that it serves now.")


class RepositoryAnswer(BaseModel):
    """A command that every worker has carried out."""

    name: str
    state: Literal["READY", "UNAVAILABLE"]
    workers: list[WorkerReached]
