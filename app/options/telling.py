"""What the service tells of itself: its log, its spans and figures."""

from typing import Literal

from pydantic import Field

from app.options.group import Group


class TellingSettings(Group):
    """What the service tells of itself."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="How the log reads: json for machines, text for people; auto is text on a terminal."
    )
    access_log: bool = Field(default=False, description="Write one line to the log for each request: on or off.")
    log_payloads: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the requests whose body is written to the log; 0.01 is one in a hundred. 0: none ever.",
    )
    log_payload_bytes: int = Field(
        default=1024, ge=1, le=2**20, description="Most bytes of a body that are written to the log."
    )
    otel: bool | None = Field(
        default=None,
        description="Send spans and metrics over OTLP, as the OTEL_* variables say; needs the extra otel: on or off. "
        "Unset: on where OTEL_EXPORTER_OTLP_ENDPOINT is set.",
    )
