"""What is handed from the measuring to the manifest, the model card and the files of a report."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from training.calibration import CalibrationCheck
from training.intervals import Interval
from training.verdict import EpochLike, Verdict

FOLDER = "report"

Winner = Literal["network", "simple model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How training went.

    Attributes:
        history: All epochs.
        best_epoch: The number of the one whose weights were kept.
        stopped_early: Training ended since validation did not get better.
        validation_scores: Of each epoch; None where only losses were taken.
        score_name: What these are.
        guess_loss: Of one who knows nothing of the inputs, in the unit of the losses; None where that is not known. A
            classifier's is found out.
    """

    history: Sequence[EpochLike]
    best_epoch: int
    stopped_early: bool = False
    validation_scores: Sequence[float] | None = None
    score_name: str = "accuracy"
    guess_loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A plot of the report.

    Attributes:
        name: Of its file, without folder and ending.
        caption: What is seen, for those who do not see it, too.
        draw: Returns the SVG; called when the files are asked for.
    """

    name: str
    caption: str
    draw: Callable[[], bytes]

    @property
    def path(self) -> str:
        """Inside the bundle."""
        return f"{FOLDER}/{self.name}.svg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A test row that is told wrongly; never what it holds.

    Attributes:
        true: Its label.
        predicted: The label given.
        probability: Of that label.
        length: Characters, tokens or steps of the row; None where rows have no length.
    """

    true: str
    predicted: str
    probability: float
    length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The network beside a simple model, on the same rows.

    Attributes:
        name: Of the simple model, as in the metrics.
        description: What it is.
        metrics: What it reaches.
        winner: Which of the two is clearly better; None where the difference may be luck.
        sentence: The same in plain words, with the numbers.
        p_value: That the difference is luck; None where an interval of the difference was taken instead.
    """

    name: str
    description: str
    metrics: Mapping[str, float]
    winner: Winner | None
    sentence: str
    p_value: float | None = None

    def score_ahead(self, metric: str) -> float | None:
        """Return what the simple model reaches where it clearly wins, else None."""
        return self.metrics[metric] if self.winner == "simple model" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All that was measured of one model.

    Attributes:
        main_metric: The one that the model is known by: accuracy, r2 or mse.
        metrics: For the manifest, by its names.
        intervals: Of some of the metrics, by the same names.
        verdict: How well it fits.
        plots: In the order in which they are shown.
        comparison: With a simple model; None where there is none.
        calibration: None where no probabilities are told.
        mistakes: The surest ones first.
        details: Further numbers for the file of the report.
    """

    main_metric: str
    metrics: dict[str, float]
    intervals: Mapping[str, Interval]
    verdict: Verdict
    plots: tuple[Plot, ...]
    comparison: Comparison | None = None
    calibration: CalibrationCheck | None = None
    mistakes: tuple[Mistake, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        """Return the plots and ``report/evaluation.json``, by their paths in the bundle."""
        told: dict[str, Any] = {
            "verdict": {"kind": self.verdict.kind, "reason": self.verdict.reason},
            "intervals_95": {name: [interval.low, interval.high] for name, interval in self.intervals.items()},
            **self.details,
        }
        if self.comparison is not None:
            told["baseline"] = {
                "name": self.comparison.name,
                "winner": self.comparison.winner,
                "verdict": self.comparison.sentence,
                "p_value": self.comparison.p_value,
            }
        if self.calibration is not None:
            told["reliability"] = _reliability(self.calibration)
        content = (json.dumps(told, indent=1) + "\n").encode()
        return {plot.path: plot.draw() for plot in self.plots} | {f"{FOLDER}/evaluation.json": content}


def with_ends(intervals: Mapping[str, Interval]) -> dict[str, float]:
    """Return both ends of intervals, as the manifest names them."""
    return {f"{name}_{end}": getattr(interval, end) for name, interval in intervals.items() for end in ("low", "high")}


def _reliability(check: CalibrationCheck) -> dict[str, Any]:
    return {
        "temperature": check.temperature,
        **{
            name: [[each.count, each.confidence, each.accuracy] for each in told.bins]
            for name, told in (("bins_plain", check.before), ("bins_with_temperature", check.after))
        },
    }
