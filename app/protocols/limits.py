"""What a request may be, on the card of a model: each bound under the name by which an error tells that it was met."""

from typing import Any

from pydantic import BaseModel, Field

from app.access.connections import UNBOUNDED, most_of
from app.access.rates import in_words, parse
from app.admission import MAX_TIMEOUT_MS
from app.bundle.manifest import Manifest, SequenceClassification, TextClassification
from app.preprocess.image import MAX_SIDE
from app.protocols.decoders import MAX_PENDING
from app.protocols.open_inference.infer_door import json_limits
from app.settings import Settings
from app.tasks import Task
from app.tasks.decoding.pictures import LARGEST_PICTURES
from app.tasks.decoding.strict_json import JsonLimits
from app.tasks.text_classification import max_chars_together

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 128


class JsonLimitsCard(BaseModel):
    """What the largest good JSON body holds, outside of strings (413 beyond it, some slack aside)."""

    arrays: int
    objects: int
    members: int
    values: int


class Limits(BaseModel):
    """What one request may hold, and what all of them may; an answer that a limit causes names it.

    Those of the service are the same on every card. Those of the model follow; they are null where its task has none.
    """

    max_header_bytes: int = Field(description="Of request line, headers and trailers (431).")
    max_headers: int = Field(description="Headers of a request (431).")
    head_timeout_s: int = Field(description="Seconds in which the head of a request must come (408).")
    keep_alive_s: int = Field(description="Idle seconds after which a connection is closed.")
    max_connections: int | None = Field(description="At once to each worker (503); null for no limit.")
    max_connections_per_address: int | None = Field(
        description="At once to each worker (429), of one address or IPv6 network; null for no limit."
    )
    rate_limit: str | None = Field(
        description="Requests of each key that has no rate of its own, or of each address (429); null for no limit."
    )
    default_timeout_ms: int = Field(description="Deadline of a request that states none (504).")
    max_timeout_ms: int = Field(description="Greatest `X-Request-Timeout-Ms` (422).")
    max_body_bytes: int = Field(description="Of a body, inflated where it is compressed (413).")
    max_incoming_bytes: int = Field(description="Of all bodies together while they come in (503).")
    max_pending_bodies: int = Field(description="Large bodies that may wait to be read (503).")
    max_queue_bytes: int = Field(description="Of all requests together that wait for models (503).")
    max_queue_rows: int = Field(description="Rows that may wait for the model (503).")
    max_instances: int = Field(description="In one request (413).")
    max_image_pixels: int = Field(description="Of a picture, before it is decoded (422).")
    max_json: JsonLimitsCard | None = Field(description="Of a body of instances.")
    max_tensor_json: JsonLimitsCard | None = Field(description="Of a body of the Open Inference Protocol.")
    max_tensor_numbers: int | None = Field(description="In the tensors of one request together.")
    min_lengths: dict[str, int] | None = Field(description="Of the open axes of its tensors, by their names.")
    max_lengths: dict[str, int] | None = Field(description="Of the open axes of its tensors, by their names.")
    min_length: int | None = Field(description="Steps of a series (422).")
    max_length: int | None = Field(description="Steps of a series (422).")
    max_text_chars: int | None = Field(description="Of a text; what follows is cut off.")
    max_text_tokens: int | None = Field(description="Of a text, special ones included; what follows is cut off.")
    max_request_chars: int | None = Field(description="That are read of all texts of one request (422).")
    max_image_side: int | None = Field(description="Pixels along a side of a picture (422).")
    max_request_pixels: int | None = Field(
        description="Of all pictures of one request; the one that passes it is still decoded, the next is not (422)."
    )


def limits_of(settings: Settings, manifest: Manifest | None, task: Task | None) -> Limits:
    """Return the limits of the service and of one of its models; those of the model where it has a task."""
    return Limits(
        max_header_bytes=MAX_HEAD_BYTES,
        max_headers=MAX_HEADERS,
        head_timeout_s=settings.head_timeout_s,
        keep_alive_s=settings.keep_alive_s,
        max_connections=None if (most := most_of(settings)) == UNBOUNDED else most,
        max_connections_per_address=settings.max_connections_per_address,
        rate_limit=None if settings.rate_limit is None else in_words(parse(settings.rate_limit)),
        default_timeout_ms=settings.timeout_ms,
        max_timeout_ms=MAX_TIMEOUT_MS,
        max_body_bytes=settings.max_body_bytes,
        max_incoming_bytes=settings.max_incoming_bytes,
        max_pending_bodies=MAX_PENDING,
        max_queue_bytes=settings.max_queue_bytes,
        max_queue_rows=settings.max_queue_rows,
        max_instances=settings.max_instances,
        max_image_pixels=settings.max_image_pixels,
        **_OF_NO_MODEL | (_of_model(settings, manifest, task) if manifest is not None and task is not None else {}),
    )


_OF_NO_MODEL: dict[str, Any] = dict.fromkeys(
    (
        "max_json", "max_tensor_json", "max_tensor_numbers", "min_lengths", "max_lengths", "min_length", "max_length",
        "max_text_chars", "max_text_tokens", "max_request_chars", "max_image_side", "max_request_pixels",
    )
)  # fmt: skip


def _of_model(settings: Settings, manifest: Manifest, task: Task) -> dict[str, Any]:
    lengths = {axis: bounds for rule in task.named.rules.values() for axis, bounds in rule.lengths.items()}
    found: dict[str, Any] = {
        "max_json": _json(task.json_limits),
        "max_tensor_json": _json(json_limits(task)),
        "max_tensor_numbers": task.named.max_numbers,
    }
    if lengths:
        found["min_lengths"] = {axis: bounds.start for axis, bounds in lengths.items()}
        found["max_lengths"] = {axis: bounds.stop - 1 for axis, bounds in lengths.items()}
    of = manifest.task
    if isinstance(of, SequenceClassification):
        found |= {"min_length": of.sequence.min_length, "max_length": of.sequence.max_length}
    elif isinstance(of, TextClassification):
        found |= {
            "max_text_chars": of.text.max_chars,
            "max_text_tokens": of.text.max_tokens,
            "max_request_chars": max_chars_together(of.text),
        }
    elif task.media_types:  # of pictures
        found |= {"max_image_side": MAX_SIDE, "max_request_pixels": LARGEST_PICTURES * settings.max_image_pixels}
    return found


def _json(limits: JsonLimits) -> JsonLimitsCard:
    return JsonLimitsCard(
        arrays=limits.arrays, objects=limits.objects, members=limits.members, values=limits.values
    )  # fmt: skip
