"""What one request may hold and take, and what all of them together may."""

from typing import Self

from pydantic import Field, model_validator

from app.options.group import Group


class LimitSettings(Group):
    """What requests may hold and take."""

    max_body_bytes: int = Field(
        default=8 * 2**20, ge=1024, description="Largest request body, inflated where it is compressed."
    )
    max_incoming_bytes: int = Field(
        default=128 * 2**20,
        ge=1024,
        description="Bytes that all bodies together may hold while they come in; more are refused with 503.",
    )
    max_instances: int = Field(default=1024, ge=1, description="Most instances in one request.")
    max_image_pixels: int = Field(default=2**24, ge=1, description="Most pixels of a picture, before it is decoded.")
    max_queue_rows: int = Field(
        default=4096, ge=1, description="Rows that may wait for one model; more are refused at once with 503."
    )
    max_queue_bytes: int = Field(
        default=128 * 2**20,
        ge=1024,
        description="Bytes that all requests may hold while they wait for models; more are refused at once with 503.",
    )
    timeout_ms: int = Field(
        default=30_000, ge=1, le=3_600_000, description="Deadline of a request that states none (504 past it)."
    )
    head_timeout_s: int = Field(
        default=20,
        ge=1,
        le=3600,
        description="Seconds in which the head of a request must come, once its first byte has (408 past it).",
    )
    compress_from_bytes: int = Field(
        default=16 * 1024,
        ge=0,
        description="Least bytes of an answer that is compressed where the client asks for it; smaller ones would pay "
        "more than they gain.",
    )
    max_connections: int | None = Field(
        default=None,
        ge=1,
        description="Connections at once, shared evenly among the workers; more are refused with 503. Unset: what the "
        "limit of open files leaves.",
    )
    max_connections_per_address: int | None = Field(
        default=None,
        ge=1,
        description="Connections at once of one address (IPv6: one /64) to each worker; more are refused with 429. "
        "Unset: no limit, since behind a proxy all come from one.",
    )
    keep_alive_s: int = Field(default=75, ge=1, description="Idle seconds after which a connection is closed.")

    @model_validator(mode="after")
    def _largest_request_fits_the_queue(self) -> Self:
        if self.max_queue_rows < self.max_instances:
            raise ValueError(
                f"ZTO_MAX_QUEUE_ROWS ({self.max_queue_rows}) must be at least ZTO_MAX_INSTANCES "
                f"({self.max_instances}), or a request that is allowed could never be queued"
            )
        return self
