"""Instances to predictions: encoded, split, asked for, and joined in their order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

from zero_to_one_client import documents, splitting, wire
from zero_to_one_client.asking import Answered, Asker, in_parts, post, segment
from zero_to_one_client.batches import Batch, encode
from zero_to_one_client.cards import ModelCard
from zero_to_one_client.errors import UnexpectedAnswer
from zero_to_one_client.flows import Flow
from zero_to_one_client.raw import read_tensor
from zero_to_one_client.receipts import Receipt
from zero_to_one_client.retries import Deadline
from zero_to_one_client.tasks import Request

P = TypeVar("P")
Q = TypeVar("Q", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Sequence[Q], Generic[Q]):
    """The predictions of a call, one for each instance, in their order; itself the sequence of them.

    Attributes:
        model: Who was asked.
        predictions: What it said.
        receipts: Of each answer that they came in, in their order: one, but where the batch was split.
    """

    model: str
    predictions: tuple[Q, ...]
    receipts: tuple[Receipt, ...]

    @property
    def version(self) -> str:
        """The version that answered; of a split call that of its first part, and ``receipts`` has all of them."""
        return self.receipts[0].version

    @overload
    def __getitem__(self, index: int) -> Q: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Q, ...]: ...

    def __getitem__(self, index: int | slice) -> Q | tuple[Q, ...]:
        return self.predictions[index]

    def __len__(self) -> int:
        return len(self.predictions)

    def __iter__(self) -> Iterator[Q]:
        return iter(self.predictions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[P]):
    """A request on its way.

    Attributes:
        asker: Sends it.
        request: What the caller wants.
        card: Of the model.
        batch: The instances, encoded.
        deadline: Of all parts.
    """

    asker: Asker
    request: Request[P]
    card: ModelCard
    batch: Batch
    deadline: Deadline

    def ask(self, part: slice) -> Flow[tuple[list[P], Receipt]]:
        """Return the predictions of a part."""
        headers = {"content-type": self.batch.media_type}
        query = self.request.query()
        tensor = self.request.answer_tensor if self.batch.media_type == wire.BYTES else None
        if tensor is not None:
            headers["accept"] = wire.BYTES
            # what shortens an answer in JSON is done here
            query = {name: value for name, value in query.items() if name == "version"} | {"tensor": tensor}
        path = f"/predict/{segment(self.request.model, 'model')}"
        asked = post(path, self.batch.body(part), headers, query)
        answered = yield from self.asker.ask(asked, self.deadline)
        card = self.card
        if _is_bytes(answered) and not _knows(card, answered.response.headers.get("x-model-version")):
            # another model since the card was asked for: bytes are read by its labels, not by those of the old one
            card = yield from self.asker.card(self.request.model, self.deadline, is_fresh=True)
        return self._read(answered, part.stop - part.start, card)

    def _read(self, answered: Answered, rows: int, card: ModelCard) -> tuple[list[P], Receipt]:
        response = answered.response
        version = ""
        if _is_bytes(answered):
            predictions = self.request.read_rows(read_tensor(response.body, response.headers), card)
        else:
            document = documents.parse(response.body, "a prediction")
            version = documents.text(document, "version")
            predictions = [self.request.read(one) for one in documents.objects(document, "predictions")]
        if len(predictions) != rows:
            raise UnexpectedAnswer(f"expected {rows} predictions, found {len(predictions)}")
        return predictions, Receipt.of(response.headers, version=version, rows=rows, tries=answered.tries)


def _is_bytes(answered: Answered) -> bool:
    return answered.response.headers.get("content-type", "").startswith(wire.BYTES)


def _knows(card: ModelCard, version: str | None) -> bool:
    """Tell whether a card is that of a version: all that are served together share labels, inputs and outputs."""
    return version is None or version == card.version or any(known.version == version for known in card.versions)


def predict(asker: Asker, request: Request[P], deadline: Deadline) -> Flow[Answer[P]]:
    """Return the predictions for a request, as large as it may be.

    Raises:
        ClientError: As :mod:`zero_to_one_client.errors` draws them. One part that fails fails all.
    """
    card = yield from asker.card(request.model, deadline)
    batch = encode(request, card, may_be_binary=asker.may_be_binary)
    call = Call(asker=asker, request=request, card=card, batch=batch, deadline=deadline)
    parts = splitting.split(
        batch.sizes(),
        max_rows=card.limits.max_instances,
        max_bytes=card.limits.max_body_bytes - batch.frame_bytes,
    )
    answers = yield from in_parts(parts, call.ask)
    return Answer(
        model=request.model,
        predictions=tuple(prediction for predictions, _ in answers for prediction in predictions),
        receipts=tuple(receipt for _, receipt in answers),
    )
