"""uvicorn, with a way of leaving that loses no request.

On SIGTERM or SIGINT: readiness goes and every answer says ``Connection: close``, while new connections are still taken
for ``drain_s`` (load balancers need to notice); then the port is closed, the last idle connections get a moment to send
what is already on its way, what is in flight is answered (what is not after ``shutdown_s``, with 503), and the process
exits with 0.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn

from app import draining, ports
from app.direct import DirectProtocol
from app.errors import SettingsError
from app.main import ZeroToOne
from app.settings import EXIT_BAD_SETTINGS, Settings

if TYPE_CHECKING:
    from app.protocols.grpc.server import GrpcServer

logger = logging.getLogger("app.server")

# a request that a client sent on an idle connection just before it learned of the end is on its way for less
LINGER_S = 0.5
# name of the thread of a worker that ends it some time after its parent
LIFELINE = "lifeline"
# A thread that reads a body, or writes a long answer, keeps the event loop waiting for so long at most. Of Python's own
# 5 ms, each such body made a tail of everybody's latencies.
SWITCH_INTERVAL_S = 0.0005
# what a thread of a runtime gets to come to its end
_THREAD_END_S = 0.5
_TICKS_PER_S = 10  # of uvicorn's main loop
# after the hook has answered everybody: uvicorn's own way of ending requests is a bare 500 and a traceback
_FORCE_AFTER_S = 1


class Server(uvicorn.Server):
    """Serves one app until a signal comes.

    Args:
        app: What to serve.
        settings: Address, port and times.

    Attributes:
        shares_ports: Whether other processes take connections of the same ports.
    """

    shares_ports = False

    def __init__(self, app: ZeroToOne, settings: Settings) -> None:
        certificate = app.certificate
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                loop="uvloop",
                http=DirectProtocol,
                ws="none",
                lifespan="on",
                # a client is whom the connection comes from, or whom ZTO_CLIENT_HEADER names, whichever way it asks
                proxy_headers=False,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=settings.keep_alive_s,
                timeout_graceful_shutdown=settings.shutdown_s + _FORCE_AFTER_S,
                ssl_context_factory=None if certificate is None else lambda _, __: certificate.context,
            )
        )
        self._app = app
        self.servers = []  # as uvicorn does only when it has started
        self._settings = settings
        self._admin: asyncio.Server | None = None
        self._head_timeout_s = settings.head_timeout_s
        self._grpc = _grpc_server(app, settings, shares_ports=self.shares_ports)
        self._drain_s = settings.drain_s
        self._shutdown_s = settings.shutdown_s

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave on SIGTERM and SIGINT; unlike the base class, without raising them again: a clean end exits with 0."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start loading, and take connections on every port."""
        await super().startup(sockets)
        if self.started:
            await self._open_other_doors()

    async def _open_other_doors(self) -> None:
        """Take connections of operators and of gRPC, where these are on; does nothing more when it is called again."""
        try:
            await self._open_admin_port()
            if self._grpc is not None:
                await self._grpc.start()
        except SettingsError as exc:
            logger.error("%s", exc)
            await self.lifespan.shutdown()
            raise SystemExit(EXIT_BAD_SETTINGS) from exc

    async def _open_admin_port(self) -> None:
        """Take connections of operators on the port that they have to themselves.

        Raises:
            SettingsError: It is taken, or the address is not here.
        """
        host, port = self._settings.admin_host, self._settings.admin_port
        if port is None or self._admin is not None:
            return
        listener = ports.listen_on(host, port, ports.OPERATORS, is_shared=self.shares_ports)
        self._app.admin_port = listener.getsockname()[1]
        self._admin = await self._serve_on(listener)
        logger.info("operators ask on %s://%s:%d", "https" if self.config.is_ssl else "http",
                    f"[{host}]" if ":" in host else host, self._app.admin_port)  # fmt: skip

    async def _serve_on(self, listener: socket.socket) -> asyncio.Server:
        """Take connections from a socket."""
        timeout_s = self._head_timeout_s if self.config.is_ssl else None
        return await asyncio.get_running_loop().create_server(
            self._create_protocol, sock=listener, ssl=self.config.ssl, ssl_handshake_timeout=timeout_s,
            backlog=self.config.backlog,
        )  # fmt: skip

    async def on_tick(self, counter: int) -> bool:
        """Once a second: hang up on who has been idle for too long, or sends too slowly; look whether keys changed."""
        if counter % _TICKS_PER_S == 0:
            self._app.admission.refresh()
            if self._app.certificate is not None:
                self._app.certificate.refresh()
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                assert isinstance(connection, DirectProtocol)
                connection.close_if_idle(now - self.config.timeout_keep_alive)
                connection.hurry(now, self._head_timeout_s)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then end as uvicorn does."""
        logger.info("draining for %.1f s", self._drain_s)
        self._app.admission.is_draining = True
        await asyncio.sleep(self._drain_s)
        await self._stop_opening()
        loop = asyncio.get_running_loop()
        if self._admin is not None:  # to be waited for with the others
            self.servers = [*self.servers, self._admin]
        for connection in draining.close(self.servers):
            await loop.connect_accepted_socket(self._create_protocol, connection, ssl=self.config.ssl)
        # of a connection that is at its handshake nobody knows, until it is done
        await draining.wait_until(
            lambda: not self.server_state.connections and not self.config.is_ssl, within_s=LINGER_S
        )  # fmt: skip
        self._app.admission.is_closed = True
        if self.config.is_ssl:
            self.servers = []  # they are closed, and would be waited for as long as somebody's handshake takes
        cutting = loop.call_later(self._shutdown_s, self._cut)
        if self._grpc is not None:
            await self._grpc.stop(self._shutdown_s + _FORCE_AFTER_S)
        await super().shutdown(sockets)
        cutting.cancel()

    async def _stop_opening(self) -> None:
        """Let no further connection open, since the port is about to be closed."""
        with contextlib.ExitStack() as opened:
            copies = [] if self._grpc is None else self._grpc.listeners()
            own = [] if self._admin is None else self._admin.sockets
            await draining.stop_opening(
                [*self._left_listeners(), *own, *(opened.enter_context(copy) for copy in copies)]
            )  # fmt: skip

    def _left_listeners(self) -> list[socket.socket]:
        """Return the sockets of HTTP that nobody takes connections from once this server ends."""
        return [sock for server in self.servers for sock in server.sockets]

    def _cut(self) -> None:
        """Answer everybody who still waits, with 503."""
        logger.warning("%d connections are cut after %d s", len(self.server_state.connections), self._shutdown_s)
        self._app.catalog.close()
        for connection in list(self.server_state.connections):
            assert isinstance(connection, DirectProtocol)
            connection.cut()

    def _create_protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn itself calls it
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def _grpc_server(app: ZeroToOne, settings: Settings, *, shares_ports: bool) -> "GrpcServer | None":
    """Return what serves gRPC; None where it is off. Nothing of it is imported then.

    Raises:
        SettingsError: It is not installed, or its port is taken.
    """
    if settings.grpc_port is None:
        return None
    from app.protocols.grpc.ports import expect_free, expect_installed

    expect_installed()
    if not shares_ports:  # else the parent of the workers has looked
        expect_free(settings.host, settings.grpc_port)
    from app.protocols.grpc.calls import CallsDoor
    from app.protocols.grpc.server import GrpcServer

    calls = CallsDoor(app.admission, app.catalog, app.figures, app.repository, app.tasks, settings)
    return GrpcServer(
        settings, app.admission, app.catalog, app.figures, app.inference, calls, certificate=app.certificate
    )  # fmt: skip


def run(server: Server, sockets: list[socket.socket] | None = None) -> int:
    """Serve until a signal comes; return the exit status. Where a runtime hangs, the process ends here instead."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        server.run(sockets)
        status = 0 if server.started else 1
    except SystemExit as exc:  # uvicorn's way of saying that it cannot start
        status = exc.code if isinstance(exc.code, int) else 1
    return _leave(status)


def _leave(status: int) -> int:
    """Return the exit status; where a runtime hangs, end the process with it, since Python would wait or abort."""
    threads = [
        thread
        for thread in threading.enumerate()
        # OpenTelemetry's have had their time, wait for a collector at most, and end with the process, as does the one
        # that waits for the end of a worker's parent
        if thread is not threading.main_thread() and not thread.name.startswith(("Otel", LIFELINE))
    ]
    for thread in threads:
        thread.join(_THREAD_END_S)
    if any(thread.is_alive() for thread in threads):
        logging.getLogger("app").warning("leaving while a model still loads or runs; everybody was answered")
        logging.shutdown()
        os._exit(status)
    return status
