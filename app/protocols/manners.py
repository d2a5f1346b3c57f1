"""What the doors of platforms do otherwise than the predict door: where wishes stand, how errors look, who is told.

All of them lead into :class:`app.protocols.predict.PredictDoor`, and so to the same numbers; a manner only translates.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from app.protocols import problem
from app.protocols.answers import DOOR
from app.serving.versions import Version

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the headers of a request ask for.

    Attributes:
        model: Who is to answer; None where they do not say.
        options: As a query would have them, the version among them.
        place: Where all of it stands, for faults.
        passed_back: What is not for us, as it is to be written into the answer.
    """

    model: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    place: str = ""
    passed_back: bytes = b""


NOTHING = Asked()


class Manner:
    """The predict door's own.

    Attributes:
        door: Its label in the metrics.
        is_platform: Whether a JSON body may hold ``"parameters"`` beside its instances, and whether the only model
            answers where nothing names one.
        naming: What a caller who has named no model is told, beside that the body may.
    """

    door: ClassVar[str] = DOOR
    is_platform: ClassVar[bool] = False
    naming: ClassVar[str] = "or ask POST /predict/{model}, or ?model="

    def read(self, headers: Iterable[tuple[bytes, bytes]]) -> Asked:
        """Return what the headers of a request ask for. Never raises."""
        return NOTHING

    def render(self, error: Exception, request_id: bytes) -> tuple[int, Headers, bytes]:
        """Return status, headers and body of an error."""
        return problem.render(error, request_id)

    def sign(self, asked: Asked, version: Version | None) -> Headers:
        """Return the headers that an answer has beside its own; ``version`` as far as the request came."""
        return []

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


PREDICT = Manner()
# of platforms that hand on the body alone
IN_PARAMETERS = 'or name it in "parameters"'


class Way(NamedTuple):
    """Where a path leads: the model that it names, or None where the request does, and the manner of its door."""

    model: str | None
    manner: Manner = PREDICT
