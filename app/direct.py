"""Connections that take plain predictions the short way: from the parser to the door, without ASGI in between.

A request for one of the door's targets, with a body of moderate and stated length, is kept until it is whole and then
shown to :class:`app.protocols.direct.DirectDoor`. What the door leaves, and every other request, becomes what uvicorn
makes of requests: a cycle that runs the application. Both kinds keep to one order on a connection, since uvicorn asks
nothing of its cycles but what :class:`DirectCycle` has.

What is gained is a third of what a small model's request costs: no task, no events, no dictionaries on the way in, one
write on the way out; and nobody has to watch for a caller who hangs up.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from app.access.roles import Role
from app.admission import TICKET, Ticket
from app.errors import ClientGone, NotAllowed, RateLimited, WrongKey
from app.protocols.direct import MAX_BODY_BYTES, DirectDoor
from app.protocols.targets import Target
from app.serving.jobs import Job
from app.wire import Refusal, WireProtocol

# for the rest of a body to come, while it holds no place in the application
PATIENCE_S = 0.05
# refusals that say nothing of the body, and come by the thousand where somebody asks too often, or guesses at keys
_OF_CALLERS = (WrongKey, NotAllowed, RateLimited)
_CLOSE_LINE = b"connection: close\r\n"


class _NobodyWaits:
    """What uvicorn sets to wake the application up, which is not asked here."""

    def set(self) -> None:
        """Do nothing."""


class _App(Protocol):
    direct: DirectDoor
    admin_port: int | None


class DirectCycle:
    """One request that the door has taken. The attributes are those that uvicorn reads and sets in its own cycles."""

    __slots__ = ("_protocol", "disconnected", "job", "keep_alive", "response_complete", "ticket", "wish")

    more_body = False
    message_event = _NobodyWaits()

    def __init__(self, protocol: "DirectProtocol", ticket: Ticket, wish: Any, keep_alive: bool) -> None:
        self._protocol = protocol
        self.ticket = ticket
        self.wish = wish
        self.keep_alive = keep_alive
        self.job: Job | None = None
        self.disconnected = False
        self.response_complete = False

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        """Write the answer, and let the connection go on; see :class:`app.protocols.direct.Exchange`."""
        if self.response_complete:
            return
        self.response_complete = True
        self.job = None  # the connection keeps this until its next request, and that would keep the tensors
        if not self.disconnected:
            self._protocol.write(STATUS_LINE[status], head, body, keep_alive=self.keep_alive)

    def disconnect(self) -> None:
        """Give up the place in the queue: the caller has gone."""
        self.disconnected = True
        job, self.job = self.job, None
        if job is not None:
            job.finish(ClientGone("the caller hung up while the request waited"))


class _Held:
    """A request whose body is still coming, and what it will need."""

    __slots__ = ("body", "target", "ticket", "timer", "wish")

    def __init__(self, target: Target, wish: Any, ticket: Ticket) -> None:
        self.target = target
        self.wish = wish
        self.ticket = ticket
        self.body = b""
        self.timer: asyncio.TimerHandle | None = None


class DirectProtocol(WireProtocol):
    """One connection; ``uvicorn.Config(app, http=DirectProtocol)``. The app is a :class:`app.main.ZeroToOne`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._app = cast("_App", config.app)
        self._door = self._app.direct
        self._targets: Mapping[bytes, Target] = self._door.targets
        self._held: _Held | None = None
        self._direct: DirectCycle | None = None  # not the last cycle, where others are pipelined behind it
        self._defaults: list[tuple[bytes, bytes]] | None = None
        self._default_lines = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class
        """Take plain predictions, but on the port of operators."""
        super().connection_made(transport)
        if self.server is not None and self.server[1] == self._app.admin_port:
            self._targets = {}

    def data_received(self, data: bytes) -> None:
        """Parse what came; what is held back now waits for the rest of its body, but not for long."""
        super().data_received(data)
        if self._held is not None and self._held.timer is None:
            self._held.timer = self.loop.call_later(PATIENCE_S, self._let_go)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up the place in the queue."""
        self._let_go()  # the application counts whoever leaves in the middle of a body
        super().connection_lost(exc)
        if self._direct is not None and not self._direct.response_complete:
            self._direct.disconnect()

    def shutdown(self) -> None:
        """Leave once what is under way is answered."""
        self._let_go()
        super().shutdown()

    def cut(self) -> None:
        """Refuse the request whose body is still coming, if there is one."""
        self._let_go()
        super().cut()

    def on_message_begin(self) -> None:
        """Count from zero. The ASGI scope is made when it is wanted."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._begin_counting()

    def on_body(self, body: bytes) -> None:
        """Hold back a piece of the body, or hand it over."""
        held = self._held
        if held is None:
            super().on_body(body)
            return
        self._unparsed_bytes = 0
        held.body = held.body + body if held.body else body

    def on_message_complete(self) -> None:
        """Show the request to the door; where the door leaves it, hand it over."""
        held = self._held
        if held is None:
            super().on_message_complete()
            return
        self._unparsed_bytes = 0
        if held.timer is not None:
            held.timer.cancel()
        before = self.cycle
        cycle = DirectCycle(self, held.ticket, held.wish, self._may_keep_alive())
        self.cycle = cast(Any, cycle)
        if self._door.start(held.target, held.body, cycle):
            self._held, self._direct = None, cycle
            return
        self.cycle = before
        self._let_go()
        super().on_message_complete()

    def write(self, status_line: bytes, head: bytes, body: bytes, *, keep_alive: bool) -> None:
        """Write an answer in one piece, and go on with the connection."""
        if self.server_state.default_headers is not self._defaults:  # uvicorn makes them anew every second
            self._defaults = self.server_state.default_headers
            self._default_lines = b"".join(b"%b: %b\r\n" % header for header in self._defaults)
        is_told = _CLOSE_LINE in head
        close = b"" if keep_alive or is_told else _CLOSE_LINE
        self.transport.write(b"".join((status_line, self._default_lines, head, close, b"\r\n", body)))
        if is_told or not keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _on_head(self) -> None:
        """Hold back a request that may go the short way, hand over any other."""
        path, _, query = self.url.partition(b"?")
        target = self._targets.get(path)
        wish = target.wish(query) if target is not None and self._is_plain() else None
        if target is not None and wish is not None:
            ticket = self._admission.admit({"headers": self.headers, "client": self.client}, Role.PREDICT)
            if _is_moderate(ticket):
                self._held = _Held(target, wish, ticket)
                return
            self._open(ticket)
            return
        self._open(None)

    def _is_plain(self) -> bool:
        cycle = self._last_cycle()
        return (
            (cycle is None or cycle.response_complete)
            and not self.pipeline
            and not self.expect_100_continue
            and not self.flow.write_paused
            and not self._admission.is_draining
            and self.parser.get_method() == b"POST"
        )

    def _may_keep_alive(self) -> bool:
        return self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()

    def _open(self, ticket: Ticket | None) -> None:
        """Do what uvicorn does when a head has come."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        HttpToolsProtocol.on_message_begin(self)
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)  # the list that the scope holds
        if ticket is not None:  # a request is admitted once
            cast("dict[str, Any]", self.scope)[TICKET] = ticket
        super()._on_head()

    def _let_go(self) -> None:
        """Hand over what is held back, as far as it has come."""
        held = self._held
        if held is None:
            return
        self._drop_held()
        self._open(held.ticket)
        if held.body:
            super().on_body(held.body)

    def _drop_held(self) -> None:
        held, self._held = self._held, None
        if held is not None and held.timer is not None:
            held.timer.cancel()

    def _refuse(self, refusal: Refusal) -> None:
        self._drop_held()
        super()._refuse(refusal)


def _is_moderate(ticket: Ticket) -> bool:
    """Tell whether a body is short, of a length that is stated, and comes as it is; of whoever is let in, or is not."""
    return (
        (ticket.refusal is None or isinstance(ticket.refusal, _OF_CALLERS))
        and ticket.content_length is not None
        and ticket.content_length <= MAX_BODY_BYTES
        and not ticket.content_encoding
    )
