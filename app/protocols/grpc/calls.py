"""Every call that is no inference: health, descriptions, figures, and the repository of models."""

import grpc

from app.admission import Admission, Ticket
from app.errors import ServingError
from app.protocols.grpc.door import Context, Door
from app.protocols.grpc.inference_pb2 import (
    ModelReadyRequest,
    ModelReadyResponse,
    ServerLiveRequest,
    ServerLiveResponse,
    ServerReadyRequest,
    ServerReadyResponse,
)
from app.serving.catalog import Catalog


class Calls:
    """Answers the calls.

    Args:
        door: Lets them in.
        admission: Knows when the service is leaving.
        catalog: The models.
    """

    def __init__(self, door: Door, admission: Admission, catalog: Catalog) -> None:
        self._door = door
        self._admission = admission
        self._catalog = catalog

    def handlers(self) -> "dict[str, grpc.RpcMethodHandler[bytes, bytes]]":
        """Return the handlers by method."""
        unary = self._door.unary
        return {
            "ServerLive": unary(ServerLiveRequest, self._server_live),
            "ServerReady": unary(ServerReadyRequest, self._server_ready),
            "ModelReady": unary(ModelReadyRequest, self._model_ready),
        }

    def is_ready(self) -> bool:
        """Return whether the required models serve, and the service is not leaving."""
        return self._catalog.is_ready and not self._admission.is_draining

    async def _server_live(self, ticket: Ticket, request: ServerLiveRequest, context: Context) -> bytes:
        return ServerLiveResponse(live=True).SerializeToString()

    async def _server_ready(self, ticket: Ticket, request: ServerReadyRequest, context: Context) -> bytes:
        return ServerReadyResponse(ready=self.is_ready()).SerializeToString()

    async def _model_ready(self, ticket: Ticket, request: ModelReadyRequest, context: Context) -> bytes:
        # as Triton says it: what is not there is not ready
        try:
            self._catalog.resolve(request.name, request.version or None)
        except ServingError:
            return ModelReadyResponse(ready=False).SerializeToString()
        return ModelReadyResponse(ready=not self._admission.is_draining).SerializeToString()
