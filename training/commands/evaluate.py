"""Run an artifact of a bundle over the test split, and hold its scores against the manifest.

The exit status is 1 where they differ.
"""

import argparse
import math
from typing import Any

import numpy as np
import torch

from app.bundle.manifest import Artifact, Manifest
from app.tensors import Tensors
from training.commands._bundles import add_bundle, label, open_newest, origin_of, runner, told_as_training_errors
from training.commands._shared import add_folders, add_threads, say, say_json
from training.data import DataSet
from training.errors import TrainingError
from training.evaluate import score, score_values
from training.export import verify
from training.export.candidates import MAX_ROWS
from training.export.verdicts import INT8, PRUNED
from training.problems import Problem

EXIT_DIFFERS = 1
TOLERANCE = 1e-4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_bundle(parser)
    parser.add_argument("--artifact", metavar="KEY", help="as onnx, onnx-int8 or state_dict (default: the first)")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help="how far a score may lie from the manifest's, as a share of it; other processors round otherwise "
        "(default: %(default)s)",
    )
    parser.add_argument("--trust-torchscript", action="store_true", help="run TorchScript, which is a program")
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    add_threads(parser)
    add_folders(parser, "--data-dir", "--models-dir")


def run(args: argparse.Namespace) -> int:
    """Run the command, and return its exit code.

    Raises:
        TrainingError: There is no such bundle or artifact, it is damaged, or its data are missing.
    """
    if not 0 <= args.tolerance < math.inf:
        raise TrainingError(f"--tolerance must be 0 or more, got {args.tolerance}")
    torch.set_num_threads(args.threads)
    bundle = open_newest(args.models_dir, args.bundle)
    manifest = bundle.manifest
    with told_as_training_errors(label(manifest)):
        artifact = bundle.artifact(args.artifact or manifest.artifacts[0].key)
    run_artifact = runner(bundle, artifact, trusted=args.trust_torchscript)
    origin = origin_of(bundle, args.data_dir)
    problem, test = origin.problem, origin.problem.data.test
    with told_as_training_errors(f"{artifact.key} of {label(manifest)}"):
        outputs = verify.run_in_batches(run_artifact, origin.tensors(test), MAX_ROWS)
    measured = figures(outputs, problem)
    stated = stated_of(manifest, artifact)
    differing = [
        name
        for name, value in measured.items()
        if name in stated and not math.isclose(value, stated[name], rel_tol=args.tolerance)
    ]
    if args.json:
        say_json(
            {
                "bundle": label(manifest),
                "artifact": artifact.key,
                "rows": len(test),
                "measured": measured,
                "stated": {name: value for name, value in stated.items() if name in measured},
                "differing": differing,
            }
        )
    else:
        _say(manifest, artifact, problem.data, measured, stated, differing)
    return EXIT_DIFFERS if differing else 0


def figures(outputs: Tensors, problem: Problem[Any]) -> dict[str, float]:
    """Return the scores of served outputs for the test split, by the names of the manifest's metrics."""
    test = problem.data.test
    targets_N = problem.targets(test)
    if targets_N is None:
        # the network has compared the pictures itself
        return {"mse": float(outputs["error"].mean(dtype=np.float64)), problem.score_name: problem.score(outputs, test)}
    if verify.VALUE in outputs:
        values = score_values(outputs[verify.VALUE], targets_N)
        return {"r2": values.r2, "mae": values.mae, "rmse": values.rmse}
    scores = score(outputs["logits"], targets_N)
    recalls = {f"recall/{name}": each for name, each in zip(problem.data.classes, scores.recall, strict=True)}
    return {"accuracy": scores.accuracy, "macro_f1": scores.macro_f1, **recalls}


def stated_of(manifest: Manifest, artifact: Artifact) -> dict[str, float]:
    """Return what a manifest says of an artifact: all its metrics, unless the artifact computes otherwise."""
    own = {} if artifact.test_accuracy is None else {"accuracy": artifact.test_accuracy}
    return own if artifact.key in (INT8, PRUNED) else {**manifest.metrics, **own}


def _say(
    manifest: Manifest,
    artifact: Artifact,
    data: DataSet[Any],
    measured: dict[str, float],
    stated: dict[str, float],
    differing: list[str],
) -> None:
    say(f"{artifact.key} of {label(manifest)} over the test split of {data.name}")
    for name, value in measured.items():
        told = "not stated" if name not in stated else f"stated {stated[name]:.6g}"
        say(f"  {name:<20} {value:.6g}, {told}{': differs' if name in differing else ''}")
    if not any(name in stated for name in measured):
        say("nothing of that is stated, so that nothing was compared")
    else:
        say(f"differs from the manifest in {', '.join(differing)}" if differing else "as the manifest says")
