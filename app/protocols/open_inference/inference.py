"""One request for inference, whichever wire it came by: tensors are checked, run by the data plane, and answered."""

import math
from collections.abc import Awaitable, Callable, Mapping

from app.admission import Ticket
from app.errors import Fault, InvalidInput
from app.metrics import Metrics
from app.protocols.asgi import note_answer
from app.protocols.decoders import Decoders
from app.protocols.open_inference.messages import InferRequest, InferResponse, Parameter
from app.protocols.open_inference.model import InferModel
from app.serving.service import Service
from app.serving.versions import Version

# a request of more numbers is read on a thread
MAX_NUMBERS_ON_LOOP = 10_000
# likewise an answer that sorts more of them: each class is a string of its own, a thousand times a number's cost
MAX_CLASSIFIED_ON_LOOP = 4096


class Inference:
    """The data plane in the words of the protocol; its doors translate only.

    Args:
        service: The data plane.
        models: By name.
        metrics: Told how long requests take to read.
        decoders: Where texts, pictures and large tensors are read, off the event loop.
    """

    def __init__(
        self, service: Service, models: Mapping[str, InferModel], metrics: Metrics, *, decoders: Decoders
    ) -> None:
        self._service = service
        self._models = models
        self._metrics = metrics
        self._decoders = decoders

    async def infer(
        self,
        ticket: Ticket,
        version: Version,
        request: InferRequest,
        *,
        asked: str | None,
        hung_up: Callable[[], Awaitable[object]],
    ) -> tuple[Version, InferResponse]:
        """Return the answer to a request, and the version that gave it.

        Args:
            ticket: From admission; its deadline holds, or that of the request's parameter ``timeout``, microseconds.
            version: Who answers, from :meth:`app.serving.catalog.Catalog.pick`.
            request: As it came; nothing of it is checked.
            asked: The version that the request asks for, if any.
            hung_up: Returns when the caller has gone.

        Raises:
            InvalidInput: The tensors are not what the model takes; every fault names its tensor.
            TooManyInstances: More rows than one request may hold.
            Overloaded, ModelNotReady, DeadlineExceeded, ModelRejectedInput, BackendFailed, ClientGone: As
                :meth:`app.serving.service.Service.predict` raises them.
        """
        model = self._models[version.ref.name]
        deadline = ticket.received_at + _timeout_s(request.parameters)
        if deadline < ticket.deadline:
            ticket.is_default_deadline = False
        else:
            deadline = ticket.deadline
        requested = model.requested(request.outputs)
        is_natural = model.takes_natural(request)
        model.expect_good(request)
        # before the data cost anything
        self._service.expect_room(version, deadline=deadline, client=ticket.lane)
        if is_natural or sum(math.prod(tensor.shape) for tensor in request.inputs) > MAX_NUMBERS_ON_LOOP:
            tensors = await self._decoders.run(deadline, model.read, request)
        else:
            tensors = model.read(request)
        parse_s = self._service.clock() - ticket.received_at
        self._metrics.stage_s[model.name, "parse"].observe(parse_s)
        version = self._service.catalog.again(version, asked)  # it may have been swapped while the data was read
        answer = await self._service.predict(
            version, tensors, deadline=deadline, client=ticket.lane, hung_up=hung_up, trace=ticket.trace
        )
        note_answer(ticket, answer, parse_s, self._service.clock())
        sorted_numbers = sum(answer.outputs[output.name].size for output in requested if output.classification)
        if sorted_numbers > MAX_CLASSIFIED_ON_LOOP:
            outputs = await self._decoders.run(deadline, model.answer, answer, requested)
        else:
            outputs = model.answer(answer, requested)
        return version, InferResponse(
            model=model.name,
            version=str(version.ref.version),
            id=request.id,
            outputs=outputs,
            parse_s=parse_s,
            queue_s=answer.queue_s,
            compute_s=answer.compute_s,
            batch_rows=answer.batch_rows,
        )


def _timeout_s(parameters: Mapping[str, Parameter]) -> float:
    """Return the seconds that a request gives itself, as Triton's clients say it: ``timeout``, in microseconds."""
    timeout = parameters.get("timeout", 0)
    if isinstance(timeout, bool) or not isinstance(timeout, int) or timeout < 0:
        message = f"expected whole microseconds, found {str(timeout)[:32]!r}"
        raise InvalidInput(Fault(pointer="parameter:timeout", code="out_of_range", message=message))
    # the protocol's number is one of 64 bits; a greater one may be beyond what a float holds
    return min(timeout, 2**63) / 1e6 if timeout else math.inf
