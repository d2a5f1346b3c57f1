"""What every call passes, whatever it asks: admission, and the translation of errors."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NoReturn, TypeAlias, TypeVar
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError, Message

from app import logs
from app.access.roles import Role
from app.admission import MAX_TIMEOUT_MS, Admission, Ticket
from app.errors import ClientGone, MalformedBody, NotAllowed, ServingError, code_of
from app.incoming import Share
from app.metrics import Metrics
from app.protocols.grpc import statuses
from app.settings import Settings

logger = logging.getLogger("app.grpc")

# its name in the metrics
DOOR = "grpc"
SERVICE = "inference.GRPCInferenceService"
# the method that sends payloads, once or on a stream
INFER, STREAM_INFER = "ModelInfer", "ModelStreamInfer"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Request = TypeVar("Request", bound=Message)
_HEEDED = frozenset(("authorization", "traceparent", "x-api-key", "x-request-id", "x-request-timeout-ms"))
OK = "OK"


class Door:
    """Lets calls in, and says why one gets no answer.

    Args:
        admission: The one of every door.
        settings: Of the service.
        metrics: Told of every request for a prediction, also of those that are not let in.
    """

    def __init__(self, admission: Admission, settings: Settings, metrics: Metrics) -> None:
        self._admission = admission
        self._metrics = metrics
        self._admin_port = settings.admin_port
        self._answers_open = asyncio.Event()
        self._answers_open.set()
        self._heeded = _HEEDED | ({settings.client_header.lower()} if settings.client_header else set())

    def share(self) -> Share:
        """Return the account of one message; see :meth:`app.admission.Admission.share`."""
        return self._admission.share()

    def ticket_of(self, context: Context, role: Role | None, method: str) -> Ticket:
        """Return the ticket of a call. Never raises: a refusal stands on the ticket.

        Args:
            context: Of the call.
            role: What it needs; None where anybody may call.
            method: Its name.
        """
        headers = [
            (key.encode(), value.encode("utf-8", "replace"))
            for key, value in context.invocation_metadata() or ()
            if key in self._heeded and isinstance(value, str)
        ]
        is_elsewhere = role is Role.ADMIN and self._admin_port is not None
        scope = {"headers": headers, "client": (address_of(context.peer()), 0)}
        ticket = self._admission.admit(scope, None if is_elsewhere else role)
        if is_elsewhere:
            ticket.refusal = NotAllowed("operators have a port of their own, over HTTP alone (ZTO_ADMIN_PORT)")
        left_s = context.time_remaining()
        if left_s is not None:
            ticket.deadline = ticket.received_at + min(left_s, MAX_TIMEOUT_MS / 1e3)
            ticket.is_default_deadline = False
        ticket.facts.method, ticket.facts.path = "POST", f"/{SERVICE}/{method}"
        if method in (INFER, STREAM_INFER):
            ticket.facts.door = DOOR
        logs.REQUEST.set(ticket)
        return ticket

    def finish(self, ticket: Ticket, status: str) -> None:
        """Count a request for a prediction, and tell of any call that is over, as :meth:`Admission.finish` does."""
        facts = ticket.facts
        if facts.door:
            self._metrics.requests[facts.door, facts.model, facts.version, status] += 1
        self._admission.finish(ticket, status)

    def offer(self, ticket: Ticket, data: bytes) -> None:
        """Show a whole message to whoever has been asked to tell of some."""
        self._admission.offer(ticket, data)

    def unary(
        self,
        request_type: type[Request],
        answer: Callable[[Ticket, Request, Context], Awaitable[bytes]],
        role: Role | None,
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Return the handler of a call with one request and one answer.

        Args:
            request_type: Of the request.
            answer: Returns the answer as it is written, or raises.
            role: What the call needs; None where anybody may call.
        """
        method = request_type.__name__.removesuffix("Request")

        async def handle(data: bytes, context: Context) -> bytes:
            ticket = self.ticket_of(context, role, method)
            try:
                if ticket.refusal is not None:
                    raise ticket.refusal
                if method == INFER:
                    self._admission.offer(ticket, data)
                answered = await answer(ticket, self.parse(request_type, data), context)
                await self.may_answer()
            except asyncio.CancelledError:
                self.count(ClientGone("the caller has given up"), ticket)
                self.finish(ticket, "CANCELLED")
                raise
            except Exception as exc:
                await self.refuse(context, ticket, exc)
            context.set_trailing_metadata(statuses.receipts(ticket))
            self.finish(ticket, OK)
            return answered

        # bytes, not messages: what cannot be read is told in our words
        return grpc.unary_unary_rpc_method_handler(handle)

    def not_offered(self, method: str, what: str) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Return the handler of a call that clients know and this service does not offer.

        Args:
            method: Its name.
            what: The end of the sentence that the caller gets.
        """

        async def refuse(_: bytes, context: Context) -> bytes:
            ticket = self.ticket_of(context, Role.READ, method)
            if ticket.refusal is not None:
                await self.refuse(context, ticket, ticket.refusal)
            self.finish(ticket, grpc.StatusCode.UNIMPLEMENTED.name)
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"not offered by this service: {what}")

        return grpc.unary_unary_rpc_method_handler(refuse)

    @contextlib.contextmanager
    def holding_answers(self) -> Iterator[None]:
        """Let nothing be written that is larger than an error."""
        self._answers_open.clear()
        try:
            yield
        finally:
            self._answers_open.set()

    async def may_answer(self) -> None:
        """Return when answers are not held back."""
        if (
            not self._answers_open.is_set()
        ):  # seldom, and waiting costs something even where there is nothing to wait for
            await self._answers_open.wait()

    def parse(self, request_type: type[Request], data: bytes) -> Request:
        """Return a message.

        Raises:
            MalformedBody: The bytes are none of this type.
        """
        try:
            return request_type.FromString(data)
        except DecodeError:
            raise MalformedBody(f"the message is no {request_type.DESCRIPTOR.full_name}") from None

    async def refuse(self, context: Context, ticket: Ticket, error: Exception) -> NoReturn:
        """End a call with an error."""
        self.count(error, ticket)
        status, told, receipts = statuses.render(error, ticket)
        self.finish(ticket, status.name)
        await context.abort(status, told, receipts)

    def count(self, error: Exception, ticket: Ticket | None = None) -> None:
        """Count a call without an answer; a defect of ours is logged with its story."""
        if ticket is not None:
            ticket.facts.code = code_of(error)
            if not isinstance(error, ServingError):
                told = logs.about(ticket)
                logger.error("request %s failed", told["request_id"], exc_info=error, extra=told)
        self._admission.count_refusal(error)


def address_of(peer: str) -> str:
    """Return the address in what gRPC says of a peer: ``ipv4:127.0.0.1:5``, ``ipv6:%5B::1%5D:5``, ``unix:``."""
    scheme, _, address = unquote(peer).partition(":")
    return address.rpartition(":")[0].strip("[]") if scheme in ("ipv4", "ipv6") else peer
