"""``ModelInfer``, and ``ModelStreamInfer``: the same on a stream that stays open, for clients that keep one."""

import asyncio
from typing import Any

from app.access.roles import Role
from app.admission import Ticket
from app.errors import ClientGone, ModelNotReady
from app.protocols.asgi import note
from app.protocols.grpc import codec, statuses
from app.protocols.grpc.door import DOOR, OK, STREAM_INFER, Context, Door
from app.protocols.grpc.gathering import Gathering
from app.protocols.grpc.inference_pb2 import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from app.protocols.open_inference.inference import Inference
from app.serving.catalog import Catalog
from app.serving.versions import Version

# of one stream; whoever sends more is read no further until the first is answered
MAX_IN_FLIGHT = 128


class InferDoor:
    """Translates requests for inference.

    Args:
        door: Lets them in.
        inference: The data plane.
        catalog: The models.
        closing: Set when the service leaves for good; streams that wait for nothing end.
    """

    def __init__(self, door: Door, inference: Inference, catalog: Catalog, closing: asyncio.Event) -> None:
        self._door = door
        self._inference = inference
        self._catalog = catalog
        self._closing = closing
        self._gathering = Gathering()

    async def infer(self, ticket: Ticket, message: ModelInferRequest, context: Context) -> bytes:
        """Return the answer to a request as it is written; raises what :meth:`Inference.infer` does."""
        del context
        version: Version | None = None
        try:
            asked = message.model_version or None
            version = self._catalog.pick(message.model_name, asked)
            # gRPC hands messages over whole, and each is held until its answer is there
            with self._door.share() as share:
                share.add(message.ByteSize())
                await self._gathering.join()
                version, response = await self._inference.infer(
                    ticket, version, codec.parse(message), asked=asked, hung_up=_never
                )
            return codec.serialize(response, is_typed=codec.has_typed_contents(message))
        finally:
            note(ticket, DOOR, version)

    async def stream(self, _: Any, context: Context) -> None:
        """Answer the requests of a stream in their order; many may be on their way at once. An error ends none."""
        in_order: asyncio.Queue[asyncio.Task[ModelStreamInferResponse] | None] = asyncio.Queue(MAX_IN_FLIGHT)

        async def write() -> None:
            while (answering := await in_order.get()) is not None:
                answer = (await answering).SerializeToString()
                await self._door.may_answer()
                await context.write(answer)

        # whoever leaves cancels this task, and with it the group
        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            while (data := await self._next(context)) is not None:
                await in_order.put(group.create_task(self._answer(data, context)))
            await in_order.put(None)
        if self._closing.is_set():
            leaving = ModelNotReady("the service is shutting down")
            await self._door.refuse(context, self._door.ticket_of(context, None, STREAM_INFER), leaving)

    async def _next(self, context: Context) -> bytes | None:
        """Return the next request of a stream; None at its end, and when the service leaves."""
        reading = asyncio.ensure_future(context.read())
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((reading, closing), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                return None
            data = reading.result()
            return data if isinstance(data, bytes) else None  # EOF
        finally:
            closing.cancel()
            reading.cancel()

    async def _answer(self, data: bytes, context: Context) -> ModelStreamInferResponse:
        """Return what a stream says to one request. Never raises but when it is canceled."""
        ticket = self._door.ticket_of(context, Role.PREDICT, STREAM_INFER)
        message = ModelInferRequest()
        try:
            if ticket.refusal is not None:
                raise ticket.refusal
            self._door.offer(ticket, data)
            message = self._door.parse(ModelInferRequest, data)
            answer = await self.infer(ticket, message, context)
        except asyncio.CancelledError:
            self._door.count(ClientGone("the caller has given up"), ticket)
            self._door.finish(ticket, "CANCELLED")
            raise
        except Exception as exc:
            self._door.count(exc, ticket)
            status, told, _ = statuses.render(exc, ticket)
            self._door.finish(ticket, status.name)
            named = ModelInferResponse(
                model_name=message.model_name, model_version=message.model_version, id=message.id
            )  # fmt: skip
            return ModelStreamInferResponse(error_message=told, infer_response=named)
        self._door.finish(ticket, OK)
        return ModelStreamInferResponse(infer_response=ModelInferResponse.FromString(answer))


async def _never() -> None:
    """Wait for a caller who leaves; gRPC cancels the call itself."""
    await asyncio.get_running_loop().create_future()
