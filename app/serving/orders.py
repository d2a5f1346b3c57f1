"""What may be wanted of a model, and what has come of it."""

from collections.abc import Callable
from dataclasses import dataclass

from app.serving.state import Desired


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What somebody wants of a model.

    Attributes:
        change: Makes what is wished now of what was wished before; may raise :class:`ServingError`.
        reads: Whether what is new, changed or gone on the disk counts.
        is_tried: Whether all go back to what was wished before, where one worker does not get there.
        finish: Makes what is kept of what is wished, once it has come out well.
        offered: What the models folder held of it, where a look at that has led here.
    """

    change: Callable[[Desired], Desired]
    reads: bool = False
    is_tried: bool = False
    finish: Callable[[Desired], Desired] = lambda desired: desired
    offered: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How one worker has come out of a command.

    Attributes:
        worker: Its number, from 0.
        ready: The versions that it serves now.
        default: The version that answers there where none is asked for; None where none does.
        error: What went wrong; None where nothing did.
    """

    worker: int
    ready: tuple[str, ...]
    default: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What has come of an order.

    Attributes:
        name: Of the model.
        desired: What is wished of it now.
        reached: How each worker that serves has come out of it.
        lasts_because: Why it lasts until the restart only; None where it is kept.
    """

    name: str
    desired: Desired
    reached: tuple[Reached, ...]
    lasts_because: str | None

    @property
    def failed(self) -> tuple[Reached, ...]:
        """The workers that did not get there."""
        return tuple(worker for worker in self.reached if worker.error is not None)
