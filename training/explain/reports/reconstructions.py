"""The explanations of an autoencoder.

Shape suffixes: B rows, H height, W width, K numbers of the code.
"""

from typing import Any

import numpy as np
import torch

from app.tensors import Tensors
from training.explain import pictures as plots
from training.explain.reconstructions import error_map, traverse, widest
from training.explain.reports._parts import FOLDER, Report, Subject, rounded

NUM_ROWS = 512
NUM_SHOWN = 8
NUM_DIMS, NUM_VALUES = 6, 7


def explain(subject: Subject, inputs: Tensors, *, low: float = 0.0, high: float = 255.0) -> Report:
    """Draw where reconstructions fail most, and what the widest numbers of the code do.

    Args:
        subject: Its network has ``encode`` (pictures to codes) and ``decode`` (codes to pictures).
        inputs: One float32 input of shape (B, H, W).
        low: Of the pixels; 0 on the scale of the errors.
        high: Of the pixels; 1 on that scale.
    """
    ((_, images_BHW),) = inputs.items()
    images_BHW = images_BHW[:NUM_ROWS].astype(np.float32)
    network: Any = subject.network
    with torch.no_grad():
        codes_BK = network.encode(torch.from_numpy(images_BHW))
        drawn_BHW = network.decode(codes_BK).numpy()
    codes_BK = codes_BK.numpy()
    errors_BHW = error_map(images_BHW, drawn_BHW, low=low, high=high)
    means_B = errors_BHW.mean(axis=(1, 2))
    worst = np.argsort(-means_B, kind="stable")[: NUM_SHOWN // 2]
    best = np.argsort(means_B, kind="stable")[: NUM_SHOWN - len(worst)]
    shown = np.concatenate([best, worst])
    dims = widest(codes_BK, NUM_DIMS)
    middle = int(np.abs(means_B - np.median(means_B)).argmin())
    # where on the picture the errors lie, over all pictures
    edges = errors_BHW.mean(axis=0)
    return Report(
        files={
            f"{FOLDER}/error_maps.png": plots.overlay_grid(
                images_BHW[shown],
                {"reconstruction": drawn_BHW[shown], "squared error": errors_BHW[shown]},
                [f"{means_B[index]:.4f}" for index in shown],
                plain=("reconstruction",),
            ),
            f"{FOLDER}/code_traversal.png": plots.strips(
                traverse(network.decode, codes_BK[middle], codes_BK, dims, NUM_VALUES),
                [f"code {dim}" for dim in dims],
                label="one number of the code, from its 5% to its 95% quantile",
            ),
        },
        figures=rounded(
            {
                "error/mean": float(means_B.mean()),
                "error/share of the worst tenth of the pixels": float(
                    np.sort(edges.ravel())[-edges.size // 10 :].sum() / edges.sum()
                ),
            }
        ),
    )
