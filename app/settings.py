"""Frozen settings from the environment; a name that starts with ``ZTO_`` and is not known is an error."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Self

from pydantic import ValidationError, model_validator

from app import platforms
from app.errors import SettingsError
from app.options.access import AccessSettings
from app.options.doors import DoorSettings
from app.options.limits import LimitSettings
from app.options.models import ModelSettings
from app.options.running import RunningSettings
from app.options.telling import TellingSettings

PREFIX = "ZTO_"
# what the tools that ask a service send; it has our prefix, and is no setting
CALLERS_KEY = "ZTO_API_KEY"
# the exit status of whoever cannot start with its settings
EXIT_BAD_SETTINGS = 2


# the last is the first to be listed
class Settings(TellingSettings, AccessSettings, LimitSettings, RunningSettings, ModelSettings, DoorSettings):
    """What an operator can set. Each field ``x`` is the variable ``ZTO_X``; the description is its documentation."""

    @model_validator(mode="after")
    def _operators_have_a_port_of_their_own(self) -> Self:
        if self.admin_port and self.admin_port in (self.port, self.grpc_port):
            raise ValueError(f"ZTO_ADMIN_PORT={self.admin_port} is taken by another door of this service")
        return self

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
