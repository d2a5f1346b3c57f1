"""Which version of a model answers: the latest, a pinned one, or several by weight; and which are held loaded.

A policy is what an operator wishes, as it goes over the wire, onto the board of the workers and into the file of the
desired state. It names versions by number, and knows nothing of whether they are there.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.bundle.manifest import Tolerance
from app.errors import quoted

# of labels and of weights: a policy is carried along with every report
MAX_LABELS = 16
# what a version's folder may be called
MAX_NUMBER = 999_999_999
# a label stands where a number may, in paths and in queries
LABEL_PATTERN = "[a-z][a-z0-9_-]{0,31}"
LATEST: Final = "latest"
# shares are often thirds, and do not add up to one exactly
_ROUNDING = 1e-9


def _named_well(by_label: dict[str, Any]) -> dict[str, Any]:
    for label in by_label:
        if re.fullmatch(LABEL_PATTERN, label) is None or label == LATEST:
            raise ValueError(
                f"{quoted(label)!r} is no label: a label is a small letter and up to 31 small letters, digits, - and _ "
                "after it, and is not 'latest'"
            )
    return by_label


def _latest_or_number(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Tell one fault of what is neither, and not one for each that it could have been."""
    try:
        return validate(value)
    except ValidationError:
        raise PydanticCustomError(
            "not_a_version", "expected 'latest' or the number of a version, from 1 to {most}", {"most": MAX_NUMBER}
        ) from None


def whole(value: object) -> object:
    """Take 2.0 for the whole number that it is to JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _by_label(value: dict[str, object]) -> WithJsonSchema:
    """Document an object whose members are labels."""
    names = {"type": "string", "pattern": f"^(?!{LATEST}$){LABEL_PATTERN}$"}
    members = {"propertyNames": names, "additionalProperties": value, "maxProperties": MAX_LABELS}
    return WithJsonSchema({"type": "object", **members})


Number: TypeAlias = Annotated[int, Field(ge=1, le=MAX_NUMBER, strict=True), BeforeValidator(whole)]
Share: TypeAlias = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Labels: TypeAlias = Annotated[
    dict[str, Number],
    Field(max_length=MAX_LABELS),
    AfterValidator(_named_well),
    _by_label({"type": "integer", "minimum": 1, "maximum": MAX_NUMBER}),
]
Weights: TypeAlias = Annotated[
    dict[str, Share],
    Field(max_length=MAX_LABELS),
    AfterValidator(_named_well),
    _by_label({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shadow(_Part):
    """A version that gets a copy of the traffic, and whose answers nobody sees.

    Attributes:
        version: Its number.
        share: Of the batches that the default version answers.
        cpu_share: Of the time of one core in each worker, that computing the copies may take at most.
        min_agreement: The share of the rows compared on which both versions have to agree before it is promoted.
        min_rows: How many rows have to be compared before.
        tolerance: How far the numbers of two answers may lie apart that agree; None for the golden tolerances of the
            shadow. Labels agree where they are the same.
    """

    version: Number
    share: Share = 1.0
    cpu_share: Share = 0.25
    min_agreement: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.99
    min_rows: Number = 1000
    tolerance: Tolerance | None = None


class Policy(_Part):
    """Which versions of a model answer, and which are loaded.

    Attributes:
        default: Who answers where neither a request nor a weight names a version: the highest that is ready and is no
            shadow, or the one that is pinned, whether it is ready or not.
        labels: Names for versions; a request may ask for a label in place of a number.
        weights: The share of the requests without a version that each label answers. The default answers the rest,
            and for a label whose version is not ready.
        keep: Which versions are loaded: all that lie in the folder, or those that serve: the default, the labeled
            ones and the shadow.
        shadow: Who gets a copy of the traffic; None where nobody does.
    """

    default: Annotated[Literal["latest"] | Number, WrapValidator(_latest_or_number)] = LATEST
    labels: Labels = {}
    weights: Weights = {}
    keep: Literal["all", "served"] = "all"
    shadow: Shadow | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "Policy":
        if unknown := sorted(set(self.weights) - set(self.labels)):
            known = ", ".join(self.labels) or "none"
            raise ValueError(f"weights of labels that are not there: {', '.join(unknown)}; there are: {known}")
        if (total := sum(self.weights.values())) > 1 + _ROUNDING:
            raise ValueError(f"the weights add up to {total:.6g}, expected at most 1: the default answers the rest")
        if self.shadow is not None and self.shadow.version == self.default:
            raise ValueError(f"version {self.default} is the default, and cannot shadow itself")
        return self

    @property
    def pinned(self) -> int | None:
        """The number of the default; None where the latest answers."""
        return self.default if isinstance(self.default, int) else None

    @property
    def named(self) -> frozenset[int]:
        """The numbers of all versions that it names."""
        pinned = () if self.pinned is None else (self.pinned,)
        shadowed = () if self.shadow is None else (self.shadow.version,)
        return frozenset((*pinned, *self.labels.values(), *shadowed))

    def in_order(self, numbers: Iterable[int]) -> list[int]:
        """Return the numbers in the order in which they are loaded: those that are named first.

        Where only those that serve are kept, the latest follow: the others are wanted only where those fail.
        """
        named = self.named
        rising = sorted(numbers)
        others = rising if self.keep == "all" else reversed(rising)
        return [*(number for number in rising if number in named), *(n for n in others if n not in named)]

    def steps(self) -> Iterator[tuple[float, int]]:
        """Yield (where its part of the way from 0 to 1 ends, number) of each label that has a weight."""
        return zip(accumulate(self.weights.values()), (self.labels[label] for label in self.weights), strict=True)


class Dealer:
    """Deals requests out by weight.

    Args:
        policy: Whose weights are used; it has some.

    Attributes:
        steps: See :meth:`Policy.steps`.
    """

    __slots__ = ("steps",)

    def __init__(self, policy: Policy) -> None:
        self.steps: Sequence[tuple[float, int]] = tuple(policy.steps())

    def deal(self, point: float) -> int | None:
        """Return the number of the version at a point from 0 to 1, uniformly drawn; None for the default."""
        for end, number in self.steps:
            if point < end:
                return number
        return None
