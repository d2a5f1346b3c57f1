"""The explanations of a classifier of series.

Shape suffixes: B rows, T steps, K channels.
"""

import numpy as np
import torch
from torch import Tensor, nn

from app.tensors import LENGTHS, Array, Tensors
from training.explain import pictures as plots
from training.explain import sanity
from training.explain.gradients import Attribution
from training.explain.reports._parts import FOLDER, Report, Subject, randomization_figures, rounded
from training.explain.scores import log_odds, predicted
from training.explain.series import mean_by_progress, step_attributions

NUM_ROWS = 128
NUM_BINS = 10


def explain(subject: Subject, inputs: Tensors, labels: tuple[str, ...]) -> Report:
    """Draw when, and on which channel, series speak for each class.

    Args:
        subject: Takes series and lengths, returns logits.
        inputs: A float32 input of shape (B, T, K), and ``lengths``.
        labels: Of the classes.
    """
    (name,) = [key for key in inputs if key != LENGTHS]
    series_BTK = torch.from_numpy(inputs[name][:NUM_ROWS].astype(np.float32))
    lengths_B = torch.from_numpy(inputs[LENGTHS][:NUM_ROWS])
    classes_B = predicted(subject.network, series_BTK, lengths_B)
    real_BT = torch.arange(series_BTK.shape[1]) < lengths_B[:, None]
    baseline_K = series_BTK[real_BT].mean(dim=0)

    def attribute(network: nn.Module) -> Attribution:
        return step_attributions(log_odds(network), series_BTK, lengths_B, classes_B, baseline_K=baseline_K)

    found = attribute(subject.network)
    randomized = sanity.randomization_test(
        subject.network,
        subject.fresh,
        lambda network: attribute(network).values,
        where=real_BT[:, :, None].expand_as(series_BTK),
    )
    figures = rounded({"integrated gradients/incompleteness": found.incompleteness})
    figures |= randomization_figures("integrated gradients", randomized)
    maps: dict[str, Array] = {}
    for index in sorted(set(classes_B.tolist())):
        of: Tensor = classes_B == index
        maps[labels[index]] = mean_by_progress(found.values[of], lengths_B[of], NUM_BINS).numpy()
    drawn = plots.time_by_channel(
        maps,
        [f"{channel + 1}" for channel in range(series_BTK.shape[2])],
        label="mean |attribution|, nats",
        axis="progress, tenths",
    )
    return Report(files={f"{FOLDER}/time_by_channel.png": drawn}, figures=figures)
