"""One request for inference, whichever wire it came by: tensors are checked, run by the data plane, and answered."""

from collections.abc import Awaitable, Callable

from app.admission import Ticket
from app.protocols.open_inference.messages import InferRequest, InferResponse
from app.serving.versions import Version


class Inference:
    """The data plane in the words of the protocol; its doors translate only."""

    async def infer(
        self,
        ticket: Ticket,
        version: Version,
        request: InferRequest,
        *,
        hung_up: Callable[[], Awaitable[object]],
    ) -> InferResponse:
        """Return the answer to a request.

        Args:
            ticket: From admission; its deadline holds.
            version: Who answers, from :meth:`app.serving.catalog.Catalog.resolve`.
            request: As it came; nothing of it is checked.
            hung_up: Returns when the caller has gone.

        Raises:
            InvalidInput: The tensors are not what the model takes; every fault names its tensor.
            TooManyInstances: More rows than one request may hold.
            Overloaded, ModelNotReady, DeadlineExceeded, ModelRejectedInput, BackendFailed, ClientGone: As
                :meth:`app.serving.service.Service.predict` raises them.
        """
        raise NotImplementedError
