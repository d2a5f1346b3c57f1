"""Whether a network learned too little, too much or about right, read from its curves; and why one may say so.

The loss while training is taken with dropout, augmentation and label smoothing, where there are any, and before each
step: it lies above that of the finished network on the same rows, often above the validation loss. So the two losses
are never held against each other to find overfitting. What counts is the plain network's score on the rows that it was
fitted to against that on rows held out, and how the validation loss moves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from training.intervals import Interval

Kind = Literal["good fit", "overfitting", "underfitting", "too few epochs to tell"]

FEWEST_EPOCHS = 5
# What the validation loss still falls over the last fifth of the epochs (three at least), as a share of itself.
STILL_FALLING = 0.05
# How far the validation loss of the kept epoch lies above its lowest, as a share of it.
RISEN = 0.10
# How much more the network scores on rows it was fitted to, in accuracy or R2, before one calls it overfitting.
WIDE_GAP = 0.08
# A network that leaves more than this share of a guess's loss has learned next to nothing.
NEXT_TO_NOTHING = 0.9
# How far a simple model's validation score may lie above the network's training score.
BEHIND = 0.02


class EpochLike(Protocol):
    """What a verdict reads of an epoch; the epochs of both loops are such."""

    @property
    def number(self) -> int:
        """Counted from 1."""
        ...

    @property
    def train_loss(self) -> float:
        """As trained: with dropout, augmentation and label smoothing where there are any."""
        ...

    @property
    def validation_loss(self) -> float:
        """Of the plain network."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalScores:
    """What the plain network with the kept weights reaches; higher is better, 1 is perfect.

    Attributes:
        name: Of the score: accuracy or R2.
        train: On rows that it was fitted to, or a sample of them, without dropout or augmentation.
        validation: On rows held out.
        validation_interval: Of the score on rows held out, where that is known: a gap within it is luck.
        baseline: What a simple model reaches on rows held out, where it is clearly better there; None where it is not.
    """

    name: str
    train: float
    validation: float
    validation_interval: Interval | None = None
    baseline: float | None = None

    @property
    def gap(self) -> float:
        """What is lost on rows that the network has not seen."""
        return self.train - self.validation

    @property
    def gap_is_luck(self) -> bool:
        """Whether so few rows held out might have given the gap alone."""
        return self.validation_interval is not None and self.train <= self.validation_interval.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the curves say.

    Attributes:
        kind: In a word or two.
        reason: One sentence, with the numbers that it rests on.
    """

    kind: Kind
    reason: str


def judge(
    history: Sequence[EpochLike],
    best_epoch: int,
    *,
    finals: FinalScores | None = None,
    guess_loss: float | None = None,
    stopped_early: bool = False,
) -> Verdict:
    """Judge how well the kept weights fit.

    Args:
        history: All epochs.
        best_epoch: The number of the one whose weights were kept.
        finals: What these weights reach on both sides; without it, only the losses speak.
        guess_loss: The loss of one who knows nothing of the inputs: log(C) for C classes alike, the variance for
            squared errors.
        stopped_early: Training ended since validation did not get better, not since the epochs were used up.

    Raises:
        ValueError: There is no such epoch.
    """
    kept = next((epoch for epoch in history if epoch.number == best_epoch), None)
    if kept is None:
        raise ValueError(f"there is no epoch {best_epoch} among {len(history)}")
    if len(history) < FEWEST_EPOCHS:
        return Verdict(kind="too few epochs to tell", reason=f"There were only {len(history)} epochs.")
    signs = (
        None if stopped_early else _still_falling(history, best_epoch),
        _learned_little(kept, finals, guess_loss),
        _learned_by_heart(history, kept, finals),
    )
    return next((sign for sign in signs if sign is not None), None) or _fits(history, kept, finals)


def _still_falling(history: Sequence[EpochLike], best_epoch: int) -> Verdict | None:
    stretch = max(3, len(history) // 5)
    then, now = history[-1 - stretch].validation_loss, history[-1].validation_loss
    in_the_end = best_epoch > history[-1].number - max(1, stretch // 2)
    if not in_the_end or then - now <= STILL_FALLING * abs(now):
        return None
    return Verdict(
        kind="too few epochs to tell",
        reason=f"The validation loss still fell from {then:.4g} to {now:.4g} over the last {stretch} of "
        f"{len(history)} epochs, and the best epoch ({best_epoch}) was among the last.",
    )


def _learned_little(kept: EpochLike, finals: FinalScores | None, guess_loss: float | None) -> Verdict | None:
    if guess_loss is not None and min(kept.train_loss, kept.validation_loss) > NEXT_TO_NOTHING * guess_loss:
        return Verdict(
            kind="underfitting",
            reason=f"In the epoch kept ({kept.number}) the training loss was {kept.train_loss:.4g} and the validation "
            f"loss {kept.validation_loss:.4g}, where a guess has {guess_loss:.4g}.",
        )
    if finals is None or finals.baseline is None or finals.baseline - finals.train <= BEHIND:
        return None
    return Verdict(
        kind="underfitting",
        reason=f"Even on the rows that it was fitted to, the network has {finals.name} {finals.train:.4f}, and a "
        f"simple model, which clearly wins, has {finals.baseline:.4f} on rows held out.",
    )


def _learned_by_heart(history: Sequence[EpochLike], kept: EpochLike, finals: FinalScores | None) -> Verdict | None:
    lowest = min(history, key=lambda epoch: epoch.validation_loss)
    rise = kept.validation_loss - lowest.validation_loss
    if kept.number > lowest.number and rise > RISEN * abs(lowest.validation_loss):
        return Verdict(
            kind="overfitting",
            reason=f"The validation loss rose from {lowest.validation_loss:.4g} in epoch {lowest.number} to "
            f"{kept.validation_loss:.4g} in the epoch kept ({kept.number}), while the training loss went from "
            f"{lowest.train_loss:.4g} to {kept.train_loss:.4g}.",
        )
    if finals is None or finals.gap <= WIDE_GAP or finals.gap_is_luck:
        return None
    return Verdict(
        kind="overfitting",
        reason=f"The plain network has {finals.name} {finals.train:.4f} on rows that it was fitted to and "
        f"{finals.validation:.4f} on rows held out: a gap of {finals.gap:.4f}, above "
        f"{WIDE_GAP}.",
    )


def _fits(history: Sequence[EpochLike], kept: EpochLike, finals: FinalScores | None) -> Verdict:
    lowest, last = min(epoch.validation_loss for epoch in history), history[-1]
    reason = (
        f"The validation loss of the epoch kept ({kept.number} of {len(history)}) is {kept.validation_loss:.4g}, its "
        f"lowest of all {lowest:.4g}"
    )
    if last.number > kept.number and last.validation_loss - kept.validation_loss > RISEN * abs(kept.validation_loss):
        reason += f"; later epochs, up to {last.validation_loss:.4g}, overfitted and were not kept"
    if finals is not None:
        reason += (
            f"; the plain network has {finals.name} {finals.train:.4f} on rows that it was fitted to and "
            f"{finals.validation:.4f} on rows held out"
        )
    return Verdict(kind="good fit", reason=f"{reason}.")
