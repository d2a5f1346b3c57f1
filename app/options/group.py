"""What all groups of settings have in common."""

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """Some settings; each field ``x`` is the variable ``ZTO_X``, and its description is its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def comma_separated(value: object) -> object:
    """Return the parts of a text; whatever is no text stays as it is."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value
