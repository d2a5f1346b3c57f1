"""The explanations of a classifier of pictures.

Shape suffixes: B rows, H height, W width.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from app.tensors import Array, Tensors
from training import architectures
from training.explain import deletion, sanity
from training.explain import pictures as plots
from training.explain.grad_cam import explained_layer, grad_cam, hires_cam
from training.explain.gradients import integrated_gradients, saliency
from training.explain.occlusion import occlude
from training.explain.reports._parts import (
    FOLDER,
    SEED,
    Report,
    Subject,
    deletion_figures,
    randomization_figures,
    rounded,
)
from training.explain.scores import predicted
from training.export.verify import PROBABILITIES, Run, eager_runner

NUM_SHOWN = 8
NUM_RANDOMIZED = 64
NUM_DELETED = 256
NUM_STEPS = 32
WINDOW, STRIDE = (4, 4), (2, 2)

Method = Callable[[nn.Module, Tensor, Tensor], Tensor]


def methods(network: nn.Module) -> dict[str, Method]:
    """Return what can explain a network: its name, and a function of network, pixels and classes."""
    found: dict[str, Method] = {
        "saliency": saliency,
        "integrated gradients": lambda net, pixels, classes: (
            integrated_gradients(net, pixels, classes, num_steps=NUM_STEPS).values
        ),
    }
    if any(isinstance(module, nn.Conv2d) for module in network.modules()):
        found |= {"Grad-CAM": grad_cam, "HiResCAM": hires_cam}
    return found


def explain(subject: Subject, inputs: Tensors, labels: tuple[str, ...]) -> Report:
    """Draw explanations of pictures of every class, and test whether they can be believed.

    Args:
        subject: Takes pixels, returns logits.
        inputs: One float32 input of shape (B, H, W), 0 where nothing is; a few hundred rows will do.
        labels: Of the classes.
    """
    ((name, images_BHW),) = inputs.items()
    network = subject.network
    pixels_BHW = torch.from_numpy(np.ascontiguousarray(images_BHW[:NUM_DELETED], dtype=np.float32))
    classes_B = predicted(network, pixels_BHW)
    served = architectures.as_served(network, temperature=subject.temperature).eval()
    run = eager_runner(served, ("logits", PROBABILITIES))
    found = {key: method(network, pixels_BHW, classes_B) for key, method in methods(network).items()}

    figures = integrated_figures(network, pixels_BHW, classes_B, found["integrated gradients"])
    for key, method in methods(network).items():
        figures |= randomization_figures(key, randomization(subject, method, pixels_BHW, classes_B))
    tested, lines = deletions(run, name, pixels_BHW, found, network)
    figures |= tested

    shown = one_of_each(classes_B)[:NUM_SHOWN]
    maps = {key: values[shown].numpy() for key, values in found.items()}
    maps["occlusion"] = occlude(network, pixels_BHW[shown], classes_B[shown], window=WINDOW, stride=STRIDE).numpy()
    files = {
        f"{FOLDER}/pictures.png": plots.overlay_grid(
            pixels_BHW[shown].numpy(), maps, [labels[index] for index in classes_B[shown].tolist()]
        ),
        f"{FOLDER}/deletion.png": plots.curves(
            lines, x_label="share of the lit pixels deleted", y_label="probability of the class"
        ),
    }
    return Report(files=files, figures=figures)


def integrated_figures(network: nn.Module, pixels: Tensor, classes_B: Tensor, values: Tensor) -> dict[str, float]:
    """Return how far integrated gradients are from adding up, as a share of what there is to explain."""
    with torch.no_grad():
        outputs_BC, dark_1C = network(pixels), network(torch.zeros_like(pixels[:1]))
    change_B = (outputs_BC - dark_1C).gather(1, classes_B[:, None])[:, 0]
    missing_B = change_B - values.flatten(1).sum(dim=1)
    return rounded({"integrated gradients/incompleteness": float(missing_B.abs().mean() / change_B.abs().mean())})


def randomization(subject: Subject, method: Method, pixels: Tensor, classes_B: Tensor) -> sanity.Randomization:
    """Run the randomization test on the lit pixels of some pictures."""
    some, of = pixels[:NUM_RANDOMIZED], classes_B[:NUM_RANDOMIZED]
    return sanity.randomization_test(
        subject.network, subject.fresh, lambda network: method(network, some, of), where=some > 0
    )


def deletions(
    run: Run, name: str, pixels_BHW: Tensor, found: dict[str, Tensor], network: nn.Module
) -> tuple[dict[str, float], dict[str, Array]]:
    """Run the deletion test for every method; return its figures, and the mean curves."""
    images_BHW, rng = pixels_BHW.numpy(), np.random.default_rng(SEED)
    controls = {"random": rng.random(images_BHW.shape), "brightest": images_BHW}
    if "Grad-CAM" in found:
        controls["random of its grain"] = coarse_noise(network, pixels_BHW, rng)
    keys = {**{key: values.numpy() for key, values in found.items()}, **controls}
    curves = {key: deletion.curve(run, name, images_BHW, of) for key, of in keys.items()}
    areas = {key: deletion.area(of) for key, of in curves.items()}
    figures: dict[str, float] = {}
    for key in found:
        for control in controls:
            if control != "random of its grain" or key.endswith("CAM"):
                figures |= deletion_figures(key, control, deletion.compare(areas[key], areas[control]))
    return figures, {key: of.mean(axis=0) for key, of in curves.items()}


def coarse_noise(network: nn.Module, pixels_BHW: Tensor, rng: np.random.Generator) -> Array:
    """Return random maps that are as coarse as the layer's, of the shape of the pictures.

    Single pixels deleted here and there leave holes that no real picture has, and confuse a network more than a whole
    part that is gone; a map of patches has to be compared with random patches.
    """
    sizes: list[torch.Size] = []
    hook = explained_layer(network).register_forward_hook(lambda module, args, output: sizes.append(output.shape))
    try:
        predicted(network, pixels_BHW[:1])
    finally:
        hook.remove()
    small = torch.from_numpy(rng.random((len(pixels_BHW), 1, *sizes[0][2:])).astype(np.float32))
    enlarged_BHW: Array = functional.interpolate(small, tuple(pixels_BHW.shape[1:]), mode="bilinear")[:, 0].numpy()
    return enlarged_BHW


def one_of_each(classes_B: Tensor) -> list[int]:
    """Return the first row of every class that was predicted, in the order of the classes."""
    return [int((classes_B == index).nonzero()[0]) for index in sorted(set(classes_B.tolist()))]
