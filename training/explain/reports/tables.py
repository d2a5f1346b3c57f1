"""The explanations of a network for rows of a table.

Shape suffixes: B rows, F features, C classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from app.tensors import Array, Tensors
from training.evaluate import cross_entropy, score_values
from training.explain import pictures as plots
from training.explain import sanity
from training.explain.gradients import NUM_STEPS, integrated_gradients
from training.explain.occlusion import ablate
from training.explain.reports._parts import FOLDER, SEED, Report, Subject, randomization_figures, rounded
from training.explain.scores import Forward, log_odds
from training.explain.tables import permutation_importance, shapley_values

NUM_ROWS = 256
NUM_SHOWN = 15


def explain(
    subject: Subject,
    inputs: Tensors,
    targets: Array,
    *,
    names: Sequence[str],
    means: Sequence[float],
    classes: tuple[str, ...] | None,
) -> Report:
    """Draw which features a network goes by, in two ways that can be held against each other.

    Args:
        subject: Takes rows, returns logits, or values of shape (B,).
        inputs: One float32 input of shape (B, F).
        targets: int64 classes or float values, shape (B,).
        names: Of the features.
        means: Of each feature in the training rows, which stand for one that is not known.
        classes: The labels; None for a regression. What is explained are the log-odds of the last.
    """
    ((_, features_BF),) = inputs.items()
    rows_BF = torch.from_numpy(features_BF[:NUM_ROWS].astype(np.float32))
    baseline_1F = torch.tensor([list(means)], dtype=torch.float32)
    targets_B = None if classes is None else torch.full((len(rows_BF),), len(classes) - 1)

    def forward_of(network: Forward) -> Forward:
        return network if classes is None else log_odds(network)

    def integrated(network: Forward) -> Tensor:
        return integrated_gradients(forward_of(network), rows_BF, targets_B, baseline=baseline_1F).values

    forward = forward_of(subject.network)
    gradients = integrated_gradients(forward, rows_BF, targets_B, baseline=baseline_1F, num_steps=NUM_STEPS)
    shapley_BF = shapley_values(forward, rows_BF, targets_B, baseline_1F=baseline_1F, seed=SEED)
    ablation_BF = ablate(forward, rows_BF, targets_B, baseline_1F=baseline_1F)
    importance = permutation_importance(
        lambda some_BF: _score(subject, some_BF, targets[:NUM_ROWS], classes), rows_BF.numpy(), seed=SEED
    )
    figures = rounded(
        {
            "integrated gradients/incompleteness": gradients.incompleteness,
            "integrated gradients/like shapley": sanity.similarity(gradients.values, shapley_BF).signed,
            "occlusion/like shapley": sanity.similarity(ablation_BF, shapley_BF).signed,
        }
    )
    figures |= randomization_figures(
        "integrated gradients", sanity.randomization_test(subject.network, subject.fresh, integrated)
    )
    unit = "value" if classes is None else f"log-odds of {classes[-1]}, nats"
    loss = "R2" if classes is None else "cross-entropy, nats"
    return Report(
        files={
            f"{FOLDER}/shapley.png": _ranked(
                names, shapley_BF.abs().mean(dim=0).numpy(), f"mean |Shapley value| ({unit})"
            ),
            f"{FOLDER}/integrated_gradients.png": _ranked(
                names, gradients.values.abs().mean(dim=0).numpy(), f"mean |attribution| ({unit})"
            ),
            f"{FOLDER}/permutation.png": _ranked(
                names, importance.mean_F, f"lost when shuffled ({loss})", errors=importance.std_F
            ),
        },
        figures=figures,
    )


def _ranked(names: Sequence[str], values_F: Array, label: str, errors: Array | None = None) -> bytes:
    order = np.argsort(-values_F, kind="stable")[:NUM_SHOWN]
    return plots.bars(
        [names[index] for index in order],
        values_F[order].tolist(),
        label=label,
        errors=None if errors is None else errors[order].tolist(),
    )


def _score(subject: Subject, rows_BF: Array, targets_B: Array, classes: tuple[str, ...] | None) -> float:
    with torch.no_grad():
        outputs = subject.network(torch.from_numpy(rows_BF)).numpy()
    if classes is None:
        return score_values(outputs, targets_B).r2
    return -cross_entropy(outputs / subject.temperature, targets_B)
