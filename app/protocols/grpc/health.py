"""gRPC's own health checking, which Kubernetes probes and clients that balance their load ask.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import grpc

from app.protocols.grpc.door import Context
from app.protocols.grpc.health_pb2 import HealthCheckRequest, HealthCheckResponse

SERVICE = "grpc.health.v1.Health"
# how often a watched status is looked at
LOOK_S = 0.2

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class HealthDoor:
    """Tells whether the service takes requests.

    Args:
        services: Names that may be asked for, beside the empty one of the whole.
        is_ready: Whether the required models serve, and the service is not leaving.
        closing: Set when the service leaves for good; those who watch are sent away.
    """

    def __init__(self, services: tuple[str, ...], is_ready: Callable[[], bool], closing: asyncio.Event) -> None:
        self._services = frozenset(("", *services))
        self._is_ready = is_ready
        self._closing = closing

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by method."""
        read, write = HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
        return {
            f"/{SERVICE}/Check": grpc.unary_unary_rpc_method_handler(self._check, read, write),
            f"/{SERVICE}/Watch": grpc.unary_stream_rpc_method_handler(self._watch, read, write),
        }

    async def _check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service named {request.service[:64]!r}")
        return HealthCheckResponse(status=self._status(request))

    async def _watch(self, request: HealthCheckRequest, context: Context) -> AsyncIterator[HealthCheckResponse]:
        del context
        told: int | None = None
        while not self._closing.is_set():
            status = self._status(request)
            if status != told:
                yield HealthCheckResponse(status=status)
                told = status
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._closing.wait()
            except TimeoutError:
                continue

    def _status(self, request: HealthCheckRequest) -> HealthCheckResponse.ServingStatus:
        if request.service not in self._services:
            return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.SERVING if self._is_ready() else HealthCheckResponse.NOT_SERVING
