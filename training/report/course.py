"""How training went, drawn."""

from functools import partial

from training.report import plots
from training.report.evaluation import Course, Plot


def learning_curves_of(course: Course) -> Plot:
    """Return the plot of the losses, and of the validation score where there is one."""
    scored = "" if course.validation_scores is None else f" and validation {course.score_name}"
    return Plot(
        name="learning_curves",
        caption=f"Loss{scored} over the epochs.",
        draw=partial(
            plots.learning_curves,
            course.history,
            course.best_epoch,
            validation_scores=course.validation_scores,
            score_name=course.score_name,
        ),
    )
