"""Where the service listens, and on which further paths."""

from pydantic import Field, ValidationInfo, field_validator

from app import platforms
from app.options.group import Group


class DoorSettings(Group):
    """Where the service listens, and on which further paths."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(
        default=8000,
        ge=0,
        le=65_535,
        description="Port to listen on; also AIP_HTTP_PORT, SAGEMAKER_BIND_TO_PORT, CONTAINER_APP_PORT or PORT, in "
        "this order. 0 takes a free one.",
    )
    grpc_port: int | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="Port of the Open Inference Protocol over gRPC, which needs the extra grpc; 0 takes a free one. "
        "Unset: no gRPC.",
    )
    health_route: str | None = Field(
        default=None,
        pattern=platforms.ROUTE_PATTERN,
        description="A further path that answers as GET /readyz does; also AIP_HEALTH_ROUTE.",
    )
    predict_route: str | None = Field(
        default=None,
        pattern=platforms.ROUTE_PATTERN,
        description="A further path that predicts, as Vertex AI asks: instances and parameters; also "
        "AIP_PREDICT_ROUTE.",
    )

    @field_validator("health_route", "predict_route")
    @classmethod
    def _route_is_free(cls, route: str | None, info: ValidationInfo) -> str | None:
        fits = platforms.READY_DOORS if info.field_name == "health_route" else platforms.PREDICTION_DOORS
        if route is not None and platforms.is_ours(route) and not fits.fullmatch(route):
            raise ValueError("the service answers this path otherwise already; take another one")
        return route
