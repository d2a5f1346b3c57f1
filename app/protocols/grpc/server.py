"""gRPC's server, on the event loop of the others and over the same data plane."""

import asyncio
import contextlib
import gc
import logging
import socket
from typing import Any, TypeAlias

import grpc

from app.access.roles import Role
from app.access.tls import Certificate
from app.admission import Admission
from app.errors import SettingsError
from app.metrics import Metrics
from app.protocols.grpc import farewell
from app.protocols.grpc.calls import CallsDoor
from app.protocols.grpc.door import SERVICE, Door
from app.protocols.grpc.health import HealthDoor
from app.protocols.grpc.infer import InferDoor
from app.protocols.grpc.inference_pb2 import ModelInferRequest
from app.protocols.open_inference.inference import Inference
from app.serving.catalog import Catalog
from app.settings import Settings

logger = logging.getLogger("app.grpc")

# calls at once on one connection; whoever has more waits for the first
MAX_STREAMS = 1024
# a call that a client made just before it learned of the end is on its way for less
LINGER_S = 0.5
_LOOK_S = 0.02
_SHARED_MEMORY = "shared memory; send the data in the request"
# what Triton's clients can ask for and no model here has any use of
_NOT_OFFERED = {
    **{
        f"{kind}SharedMemory{action}": _SHARED_MEMORY
        for kind in ("System", "Cuda")
        for action in ("Status", "Register", "Unregister")
    },
    "TraceSetting": "traces; see /metrics for the seconds of each stage",
    "LogSettings": "settings of the log while it runs; see ZTO_LOG_LEVEL",
}
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class GrpcServer:
    """Serves until it is stopped.

    Args:
        settings: Of the service; ``grpc_port`` is set.
        admission: The one of every door.
        catalog: The models.
        metrics: Told of every answer.
        inference: The data plane.
        calls: Answers whatever is no inference.
        certificate: Of TLS; None without.
    """

    def __init__(
        self,
        settings: Settings,
        admission: Admission,
        catalog: Catalog,
        metrics: Metrics,
        inference: Inference,
        calls: CallsDoor,
        *,
        certificate: Certificate | None = None,
    ) -> None:
        self._settings = settings
        self._certificate = certificate
        self._door = door = Door(admission, settings, metrics)
        self._closing = asyncio.Event()
        infer = InferDoor(door, inference, catalog, self._closing)
        health = HealthDoor((SERVICE,), calls.is_ready, self._closing)
        handlers: dict[str, Handler] = {
            "ModelInfer": door.unary(ModelInferRequest, infer.infer, Role.PREDICT),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(infer.stream),
            **calls.handlers(door),
            **{name: door.not_offered(name, what) for name, what in _NOT_OFFERED.items()},
        }
        self._handlers = {f"/{SERVICE}/{name}": handler for name, handler in handlers.items()} | health.handlers()
        self._server: grpc.aio.Server | None = None
        self._port = 0
        self._pair_told: tuple[bytes, bytes] | None = None

    async def start(self) -> None:
        """Take connections; does nothing more when it is called again.

        Raises:
            SettingsError: The port has been taken meanwhile.
        """
        if self._server is not None:
            return
        settings = self._settings
        is_shared = settings.workers > 1 or settings.watchdog  # a parent holds the port
        assert settings.grpc_port is not None
        server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", int(is_shared)),
                # of what is compressed, after it has been inflated
                ("grpc.max_receive_message_length", settings.max_body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", MAX_STREAMS),
                ("grpc.max_connection_idle_ms", settings.keep_alive_s * 1000),
            )
        )
        server.add_generic_rpc_handlers((_Methods(self._handlers),))
        shown = f"[{settings.host}]" if ":" in settings.host else settings.host
        try:
            port = self._open(server, f"{shown}:{settings.grpc_port}")
        except RuntimeError as exc:
            raise SettingsError(
                f"cannot listen on {settings.host} port {settings.grpc_port} for gRPC (ZTO_GRPC_PORT): {exc}"
            ) from exc
        await server.start()
        self._server = server
        self._port = port
        logger.info("gRPC on %s:%d", shown, port)

    def _open(self, server: grpc.aio.Server, address: str) -> int:
        certificate = self._certificate
        if certificate is None:
            return server.add_insecure_port(address)
        credentials = grpc.dynamic_ssl_server_credentials(
            grpc.ssl_server_certificate_configuration([certificate.pair]),
            self._pair_if_new,  # type: ignore[arg-type]  # None stands for "as it was"
        )
        return server.add_secure_port(address, credentials)

    def _pair_if_new(self) -> "grpc.ServerCertificateConfiguration | None":
        """Return the certificate where it has changed since the last connection; gRPC asks on a thread of its own."""
        assert self._certificate is not None
        pair = self._certificate.pair
        if pair is self._pair_told:
            return None
        self._pair_told = pair
        return grpc.ssl_server_certificate_configuration([pair])

    def listeners(self) -> list[socket.socket]:
        """Return duplicates of the sockets that connections are taken from; none before the start."""
        return [] if self._server is None else farewell.listeners_on(self._port)

    async def stop(self, within_s: float) -> None:
        """Send the clients away, and return when the calls on their way are answered, or cut after ``within_s``.

        No further connection may be opened any more.
        """
        server, self._server = self._server, None
        if server is None:
            return
        with contextlib.ExitStack() as opened:
            connections = [opened.enter_context(each) for each in farewell.connections_on(self._port)]
            with self._door.holding_answers():
                await farewell.send_away(connections)
        self._closing.set()
        await self._expect_gone(LINGER_S)
        await server.stop(within_s)
        del server
        # calls that were aborted hold themselves, and with them the thread that waits for events
        gc.collect()

    async def _expect_gone(self, within_s: float) -> None:
        """Return when every client has gone, or the time is over."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + within_s
        while loop.time() < ends_at:
            left = farewell.connections_on(self._port)
            for connection in left:
                connection.close()
            if not left:
                return
            await asyncio.sleep(_LOOK_S)


class _Methods(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs alone
    """All methods in one table."""

    def __init__(self, handlers: dict[str, Handler]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        return self._handlers.get(handler_call_details.method)
