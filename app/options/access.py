"""Who may ask, how often, and over what."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from app.options.group import Group, comma_separated


class AccessSettings(Group):
    """Who may ask, how often, and over what."""

    client_header: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
        description="Header that names the client, for fairness between clients under overload, as X-Forwarded-For or "
        "X-Client-ID; of a list the last entry counts. Set it only where a proxy of yours sets that header. Without "
        "it, a client is an address (IPv6: a /64).",
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
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(comma_separated)] = Field(
        default=(),
        description="Origins whose pages may ask from a browser, by comma, as https://example.org; * for all. Unset: "
        "only our own page may.",
    )

    @field_validator("admin_key")
    @classmethod
    def _key_fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[!-~]+", value.get_secret_value()):
            raise ValueError("a key has visible ASCII characters and no blanks, since it is sent in a header")
        return value

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
