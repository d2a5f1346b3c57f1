"""Every call that is no inference: health, descriptions, figures, and the repository of models."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from app.access.roles import Role
from app.admission import Admission, Ticket
from app.errors import ServingError
from app.metrics import Metrics
from app.protocols.grpc import inference_pb2 as pb
from app.protocols.grpc.door import Context, Door
from app.protocols.open_inference import describe, repository
from app.protocols.open_inference.statistics import model_statistics
from app.serving.catalog import Catalog
from app.serving.repository import Repository, Wish
from app.settings import Settings
from app.tasks import Task

Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
Request = TypeVar("Request", bound=Message)


class CallsDoor:
    """Answers the calls, in the words that HTTP has for them.

    Args:
        admission: Knows when the service is leaving.
        catalog: The models.
        metrics: What is counted.
        models: Carries out commands.
        tasks: By name of the model; more may come.
        settings: Of the service.
        clock: That of deadlines.
    """

    def __init__(
        self,
        admission: Admission,
        catalog: Catalog,
        metrics: Metrics,
        models: Repository,
        tasks: Mapping[str, Task],
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._admission = admission
        self._catalog = catalog
        self._metrics = metrics
        self._models = models
        self._tasks = tasks
        self._settings = settings
        self._clock = clock

    def handlers(self, door: Door) -> dict[str, Handler]:
        """Return the handlers by method."""

        def plain(
            request_type: type[Request], answer: Callable[[Request], Message], role: Role | None = Role.READ
        ) -> Handler:
            async def handle(_: Ticket, request: Request, __: Context) -> bytes:
                return answer(request).SerializeToString()

            return door.unary(request_type, handle, role)

        return {
            "ServerLive": plain(pb.ServerLiveRequest, lambda _: pb.ServerLiveResponse(live=True), None),
            "ServerReady": plain(pb.ServerReadyRequest, lambda _: pb.ServerReadyResponse(ready=self.is_ready()), None),
            "ModelReady": plain(pb.ModelReadyRequest, self._model_ready, None),
            "ServerMetadata": plain(pb.ServerMetadataRequest, _server_metadata),
            "ModelMetadata": plain(pb.ModelMetadataRequest, self._model_metadata),
            "ModelConfig": plain(pb.ModelConfigRequest, self._model_config),
            "ModelStatistics": plain(pb.ModelStatisticsRequest, self._model_statistics),
            "RepositoryIndex": door.unary(pb.RepositoryIndexRequest, self._index, Role.ADMIN),
            "RepositoryModelLoad": door.unary(pb.RepositoryModelLoadRequest, self._load, Role.ADMIN),
            "RepositoryModelUnload": door.unary(pb.RepositoryModelUnloadRequest, self._unload, Role.ADMIN),
        }

    def is_ready(self) -> bool:
        """Return whether the required models serve, and the service is not leaving."""
        return self._catalog.is_ready and not self._admission.is_draining

    def _model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        # as Triton says it: what is not there is not ready
        try:
            self._catalog.resolve(request.name, request.version or None)
        except ServingError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    def _model_metadata(self, request: pb.ModelMetadataRequest) -> Message:
        version = self._catalog.resolve(request.name, request.version or None)
        told = describe.model_metadata(self._catalog.models[request.name], version)
        return ParseDict(told, pb.ModelMetadataResponse())

    def _model_config(self, request: pb.ModelConfigRequest) -> Message:
        version = self._catalog.resolve(request.name, request.version or None)
        told = describe.model_config(version, self._tasks[request.name], self._settings)
        return ParseDict({"config": told}, pb.ModelConfigResponse())

    def _model_statistics(self, request: pb.ModelStatisticsRequest) -> Message:
        told = model_statistics(self._catalog.models, self._metrics, request.name or None, request.version or None)
        return ParseDict(told, pb.ModelStatisticsResponse())

    async def _index(self, _: Ticket, request: pb.RepositoryIndexRequest, context: Context) -> bytes:
        models = repository.index(self._models, only_ready=request.ready)
        return ParseDict({"models": models}, pb.RepositoryIndexResponse()).SerializeToString()

    async def _load(self, ticket: Ticket, request: pb.RepositoryModelLoadRequest, context: Context) -> bytes:
        await self._carry_out(ticket, request, context, "load")
        return pb.RepositoryModelLoadResponse().SerializeToString()

    async def _unload(self, ticket: Ticket, request: pb.RepositoryModelUnloadRequest, context: Context) -> bytes:
        await self._carry_out(ticket, request, context, "unload")
        return pb.RepositoryModelUnloadResponse().SerializeToString()

    async def _carry_out(
        self,
        ticket: Ticket,
        request: pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest,
        context: Context,
        wish: Wish,
    ) -> None:
        repository.expect_parameters({name: _value(given) for name, given in request.parameters.items()}, wish)
        await self._models.command(request.model_name, wish, within_s=ticket.deadline - self._clock())


def _server_metadata(_: pb.ServerMetadataRequest) -> Message:
    return ParseDict(describe.server_metadata(), pb.ServerMetadataResponse())


def _value(given: pb.ModelRepositoryParameter) -> Any:
    chosen = given.WhichOneof("parameter_choice")
    return None if chosen is None else getattr(given, chosen)
