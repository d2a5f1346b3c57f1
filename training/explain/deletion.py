"""The deletion test: without the pixels that an explanation names, the network has to lose its certainty.

Petsiuk et al., arXiv:1806.07421; Samek et al., arXiv:1509.06321. Pixels are deleted in the order of their attribution,
and the probability of the class is followed down; the smaller the area under that curve, the better the order. Every
picture is its own control: the same is done to it in other orders.

Only pixels that differ from what they are replaced with are counted. Half of a picture on black can be deleted without
any change, and an explanation that knew no more than where the object is would beat plain chance.

Shape suffixes: B rows of the batch, P pixels of a picture, S points of the curve.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.tensors import Array
from training.export.verify import PROBABILITIES, Run, run_in_batches

NUM_STEPS = 20
BATCH_ROWS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Two orders of deletion, compared picture by picture.

    Attributes:
        area: Mean area under the curve of the explanation's order; 1 is certainty to the last pixel.
        control_area: The same for the other order.
        gain: Mean of ``control_area - area``; above 0 where the explanation's order hurts more.
        gain_error: Standard error of ``gain``, over the pictures.
        share_hurt_more: Of the pictures.
    """

    area: float
    control_area: float
    gain: float
    gain_error: float
    share_hurt_more: float


def curve(run: Run, input_name: str, inputs: Array, keys: Array, *, baseline: float = 0.0) -> NDArray[np.float64]:
    """Delete pixels step by step and follow the probability of the class that was predicted with all of them.

    Args:
        run: A classifier with an output ``probabilities``.
        input_name: Of its one input.
        inputs: float32, shape (B, ...).
        keys: The largest of each row goes first; of the shape of ``inputs``, such as an attribution.
        baseline: What stands where a pixel was.

    Returns:
        float64, shape (B, S): with 0, 1/20, 2/20, ... of the pixels deleted that can be.
    """
    flat_BP = inputs.reshape(len(inputs), -1)
    shown_BP = flat_BP != baseline
    # pixels that cannot be deleted come last, behind every other
    order_BP = np.lexsort((-keys.reshape(flat_BP.shape), ~shown_BP), axis=1)
    rank_BP = np.argsort(order_BP, axis=1)
    probabilities = []
    for share in np.linspace(0, 1, NUM_STEPS + 1):
        gone_BP = rank_BP < np.round(share * shown_BP.sum(axis=1, keepdims=True))
        left_BP = np.where(gone_BP, np.float32(baseline), flat_BP).astype(np.float32)
        outputs = run_in_batches(run, {input_name: left_BP.reshape(inputs.shape)}, BATCH_ROWS)
        probabilities.append(outputs[PROBABILITIES].astype(np.float64))
    classes_B = probabilities[0].argmax(axis=1)
    return np.stack([of_BC[np.arange(len(of_BC)), classes_B] for of_BC in probabilities], axis=1)


def area(curve_BS: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area under each curve, between 0 and 1, by the trapezoid rule."""
    areas_B: NDArray[np.float64] = np.trapezoid(curve_BS, dx=1 / (curve_BS.shape[1] - 1), axis=1)
    return areas_B


def compare(areas_B: NDArray[np.float64], control_areas_B: NDArray[np.float64]) -> Paired:
    """Compare two orders by their areas, picture by picture."""
    gains_B = control_areas_B - areas_B
    return Paired(
        area=float(areas_B.mean()),
        control_area=float(control_areas_B.mean()),
        gain=float(gains_B.mean()),
        gain_error=float(gains_B.std(ddof=1) / math.sqrt(len(gains_B))),
        share_hurt_more=float((gains_B > 0).mean()),
    )
