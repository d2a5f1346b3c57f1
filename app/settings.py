"""Frozen settings from the environment; a name that starts with ``ZTO_`` and is not known is an error."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from app import cpus, platforms
from app.errors import SettingsError

PREFIX = "ZTO_"
# what the tools that ask a service send; it has our prefix, and is no setting
CALLERS_KEY = "ZTO_API_KEY"
# the exit status of whoever cannot start with its settings
EXIT_BAD_SETTINGS = 2
MAX_WORKERS, MAX_THREADS = 256, 1024
# of all models, or of the one before the equals sign
_BACKEND = r"([a-z0-9][a-z0-9_-]{0,63}=)?[a-z][a-z0-9_]*(-[a-z0-9_]+)?"

# the latest, or of the model before the equals sign a number
_VERSION = r"(latest|[a-z0-9][a-z0-9_-]{0,63}=(latest|[1-9][0-9]{0,8}))"


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


class Settings(BaseModel):
    """What an operator can set. Each field ``x`` is the variable ``ZTO_X``; the description is its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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
    models_dir: Path = Field(
        default=Path("models"),
        description="Folder of the bundles, <name>/<version>/; also MODELS_DIR. Where neither is set, the first of "
        "AZUREML_MODEL_DIR, /opt/ml/model and /mnt/models that holds bundles.",
    )
    backend: str = Field(
        default="auto",
        pattern=rf"^{_BACKEND}(,{_BACKEND})*$",
        description="Artifact to serve: onnx, state_dict, torch_export, torchscript, or a variant of one, as "
        "onnx-int8; auto takes the first that the bundle has and the installation can run. For one model alone: "
        "cnn=onnx-int8,auto.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where models compute: cuda is the GPU, and a model that cannot have it fails; auto takes the GPU "
        "where the runtime has one that answers.",
    )
    tuning: bool = Field(
        default=True, description="Heed what `python -m app tune` has written for this machine: on or off."
    )
    state_dir: Path | None = Field(
        default=None,
        description="Folder of what this machine learns of the bundles, <name>/<version>.tuning.json (default: beside "
        "them, in the models folder), and of what admin calls have changed, control.json (default: lost at a restart).",
    )
    allow_torchscript: bool = Field(
        default=False,
        description="Load TorchScript artifacts. Such a file is a program: allow it only where you trust whoever "
        "made the bundles as you trust your own code.",
    )
    signing_key: Path | None = Field(
        default=None,
        description="File of the public keys (PEM, elliptic curve) of which one must have signed a bundle, or it is "
        "not served; needs the extra verifying. Unset: no signature is asked for.",
    )
    version_policy: str = Field(
        default="latest",
        pattern=rf"^{_VERSION}(,{_VERSION})*$",
        description="Version of each model that answers where none is asked for: latest, or with the name of a model a "
        "number, as cnn=2,mlp=1. What is changed by an admin call counts until this setting changes.",
    )
    keep_versions: Literal["all", "served"] = Field(
        default="all",
        description="Versions that are loaded: all in the folder, or those that serve.",
    )
    poll_s: float | None = Field(
        default=None,
        ge=0.1,
        le=86_400,
        description="Seconds between two looks at the models folder for new, changed and removed bundles. Unset: it is "
        "looked at when a model is loaded.",
    )
    required_models: Annotated[tuple[str, ...], BeforeValidator(_comma_separated)] = Field(
        default=(), description="Models that /readyz waits for, by comma; default: every bundle found at start-up."
    )
    default_model: str | None = Field(default=None, description="Answers a body of POST /predict that names no model.")
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
    workers: int = Field(
        default=1,
        ge=1,
        le=MAX_WORKERS,
        description="Processes that serve, each with its own copy of the models; also WORKERS. auto takes one for each "
        "core that the container has.",
    )
    threads: int = Field(
        default=1,
        ge=1,
        le=MAX_THREADS,
        description="Threads of the runtime inside one call; auto shares the cores of the container among the workers. "
        "More than that share are cut down to it.",
    )
    run_on: Literal["auto", "loop", "thread"] = Field(
        default="auto",
        description="Where a batch runs: on the event loop (no hop; for models of a few milliseconds), on a thread, or "
        "decided by the time that a full batch takes in the warm-up.",
    )
    length_buckets: bool = Field(
        default=True,
        description="Texts and series whose lengths are far apart run in batches of their own; 0 pads whatever comes "
        "next to the longest of it.",
    )
    watchdog: bool = Field(
        default=True,
        description="Watch one worker too: a parent replaces it where it ends or hangs. 0 serves in a single process; "
        "of several workers, those that hang are then left alone.",
    )
    hung_s: float = Field(
        default=4.0,
        ge=1,
        le=3600,
        description="Seconds after which a batch on a thread, or a worker whose event loop does not turn, is given up; "
        "longer where ten of the model's full batches take longer.",
    )
    canary_s: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        description="Seconds between two golden rows that each version is asked, through its queue; 0 asks none.",
    )
    max_worker_bytes: int | None = Field(
        default=None,
        ge=2**20,
        description="Resident memory from which on a worker is replaced; it first finishes what it has taken. Unset: "
        "no bound.",
    )
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
    client_header: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
        description="Header that names the client, for fairness between clients under overload, as X-Forwarded-For or "
        "X-Client-ID; of a list the last entry counts. Set it only where a proxy of yours sets that header. Without "
        "it, a client is an address.",
    )
    admin_key: SecretStr | None = Field(
        default=None,
        min_length=8,
        description="One more key of the role admin, which may load, unload and switch models. Without it and a key of "
        "that role in ZTO_API_KEYS_FILE, nobody may.",
    )
    api_keys_file: Path | None = Field(
        default=None,
        description="File of the keys that callers need, as `python -m app keys new` writes it; read again when it "
        "changes. Unset: predicting and reading need no key.",
    )
    allow_anonymous: bool = Field(
        default=False,
        description="Listen beyond loopback without keys: only where whatever stands in front checks who asks, or "
        "everybody may.",
    )
    rate_limit: str | None = Field(
        default=None,
        description="How often each key may ask, and without keys each address (IPv6: each /64), as "
        "100/second;2000/minute; more is refused with 429. Unset: no limit.",
    )
    admin_port: int | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="Port of its own for what operators do, which the other ports then refuse; 0 takes a free one. "
        "Unset: it is done on ZTO_PORT.",
    )
    admin_host: str = Field(default="127.0.0.1", description="Address of ZTO_ADMIN_PORT.")
    tls_cert: Path | None = Field(
        default=None,
        description="Certificate in PEM, with those between it and the root behind it: every port then speaks TLS. "
        "Read again when it changes.",
    )
    tls_key: Path | None = Field(default=None, description="Private key of ZTO_TLS_CERT in PEM, without a password.")
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_comma_separated)] = Field(
        default=(),
        description="Origins whose pages may ask from a browser, by comma, as https://example.org; * for all. Unset: "
        "only our own page may.",
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
    drain_s: float = Field(
        default=0.5, ge=0, description="Seconds between SIGTERM (unready, Connection: close) and closing the port."
    )
    shutdown_s: int = Field(
        default=30, ge=1, le=86_400, description="Most seconds that requests in flight are waited for."
    )
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

    @field_validator("workers", mode="before")
    @classmethod
    def _one_for_each_core(cls, value: object) -> object:
        return min(MAX_WORKERS, cpus.num_cores()) if value == "auto" else value

    @field_validator("threads", mode="before")
    @classmethod
    def _share_of_the_cores(cls, value: object, info: ValidationInfo) -> object:
        # workers is not there where its own value is impossible, which is told beside
        if value != "auto":
            return value
        return min(MAX_THREADS, max(1, cpus.num_cores() // info.data.get("workers", 1)))

    @field_validator("admin_key")
    @classmethod
    def _key_fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[!-~]+", value.get_secret_value()):
            raise ValueError("a key has visible ASCII characters and no blanks, since it is sent in a header")
        return value

    @field_validator("health_route", "predict_route")
    @classmethod
    def _route_is_free(cls, route: str | None, info: ValidationInfo) -> str | None:
        fits = platforms.READY_DOORS if info.field_name == "health_route" else platforms.PREDICTION_DOORS
        if route is not None and platforms.is_ours(route) and not fits.fullmatch(route):
            raise ValueError("the service answers this path otherwise already; take another one")
        return route

    @model_validator(mode="after")
    def _largest_request_fits_the_queue(self) -> Self:
        if self.max_queue_rows < self.max_instances:
            raise ValueError(
                f"ZTO_MAX_QUEUE_ROWS ({self.max_queue_rows}) must be at least ZTO_MAX_INSTANCES "
                f"({self.max_instances}), or a request that is allowed could never be queued"
            )
        return self

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", origin):
                raise ValueError(f"{origin!r} is no origin: scheme, host and port alone, as https://example.org:8443")
        if "*" in origins and len(origins) > 1:
            raise ValueError("* stands for all origins; name it alone")
        return origins

    @model_validator(mode="after")
    def _tls_has_both(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("ZTO_TLS_CERT and ZTO_TLS_KEY belong together: set both, or neither")
        return self

    @model_validator(mode="after")
    def _operators_have_a_port_of_their_own(self) -> Self:
        if self.admin_port and self.admin_port in (self.port, self.grpc_port):
            raise ValueError(f"ZTO_ADMIN_PORT={self.admin_port} is taken by another door of this service")
        return self

    @model_validator(mode="after")
    def _one_backend_each(self) -> Self:
        names = [part.rpartition("=")[0] for part in self.backend.split(",")]
        if len(set(names)) != len(names):
            raise ValueError(f"ZTO_BACKEND={self.backend!r} names two backends for one model, or for all")
        return self

    @model_validator(mode="after")
    def _one_version_each(self) -> Self:
        names = [part.partition("=")[0] for part in self.version_policy.split(",")]
        if len(set(names)) != len(names):
            raise ValueError(f"ZTO_VERSION_POLICY={self.version_policy!r} names two versions for one model")
        return self

    @property
    def default_versions(self) -> "dict[str, Literal['latest'] | int]":
        """The versions that answer of single models, by name."""
        pairs = (part.split("=") for part in self.version_policy.split(",") if "=" in part)
        return {name: "latest" if version == "latest" else int(version) for name, version in pairs}

    def default_version_of(self, model: str) -> Literal["latest"] | int:
        """Return the version of a model that answers where none is asked for."""
        return self.default_versions.get(model, "latest")

    @property
    def backends(self) -> dict[str, str]:
        """The backends that single models have, by name."""
        pairs = (part.split("=") for part in self.backend.split(",") if "=" in part)
        return dict(pairs)

    def backend_of(self, model: str) -> str:
        """Return the artifact's key for a model, or ``auto``."""
        every = next((part for part in self.backend.split(",") if "=" not in part), "auto")
        return self.backends.get(model, every)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the settings from the environment.

        Raises:
            SettingsError: A ``ZTO_`` name is unknown, or a value impossible; every fault is named.
        """
        variables = platforms.named(environ)
        ours = {name: name[len(PREFIX) :].lower() for name in environ if _is_ours(name)}
        unknown = [name for name, field in ours.items() if field not in cls.model_fields or name != name.upper()]
        if unknown:
            raise SettingsError("; ".join(f"unknown setting {name}{_hint(ours[name], cls)}" for name in unknown))
        variables |= {field: name for name, field in ours.items()}
        values: dict[str, object] = {field: environ[name] for field, name in variables.items()}
        if "models_dir" not in values and (place := platforms.models_place(environ)) is not None:
            values["models_dir"] = place
        try:
            return cls.model_validate(values)
        except ValidationError as exc:
            faults = "; ".join(
                (
                    f"{variables[str(error['loc'][0])]}{_shown(str(error['loc'][0]), error['input'])}: "
                    if error["loc"]
                    else ""
                )
                + error["msg"].removeprefix("Value error, ")
                for error in exc.errors()
            )
            raise SettingsError(faults) from exc


def _is_ours(name: str) -> bool:
    return name.upper().startswith(PREFIX) and name != CALLERS_KEY


def _shown(field: str, value: object) -> str:
    """Return a value that is impossible as it is told; a secret is not."""
    return "" if field == "admin_key" else f"={value!r}"


def _hint(field: str, settings: type[Settings]) -> str:
    near = get_close_matches(field, settings.model_fields, n=1)
    return f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""
