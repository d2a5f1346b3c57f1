"""What commands do with bundles: find them, open them, and have the data that they were trained on."""

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from app.bundle.loader import Bundle, BundleRef, find_bundles, open_bundle
from app.bundle.manifest import Artifact, Manifest, TaskSettings, is_version
from app.bundle.pt2 import clean
from app.preprocess.text import TextPreparation
from app.tensors import Tensors
from training import architectures, config, data, pipeline
from training.commands._shared import models_to_train
from training.config import Config, TrainConfig
from training.errors import TrainingError
from training.export import onnx, state_dict, torch_export, torchscript, verify
from training.problems import Problem
from training.problems.text_classification import as_inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a bundle was trained for, on the data that it was trained on.

    Attributes:
        config: Its recipe.
        problem: The data, seen as what it was trained for.
        preparation: The bundle's own, where it reads texts: a recipe of today may learn another vocabulary.
    """

    config: Config
    problem: Problem[Any]
    preparation: TextPreparation | None

    def tensors(self, rows: Any) -> Tensors:
        """Return rows of a split as the bundle's network takes them."""
        if self.preparation is None:
            return self.problem.tensors(rows)
        return as_inputs(tuple(self.preparation.ids(text) for text in rows.texts))


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a bundle."""
    parser.add_argument("bundle", metavar="NAME[/VERSION]", help="of the bundle (default: its newest version)")


def find(models_dir: Path, text: str | None = None) -> list[BundleRef]:
    """Return where bundles lie.

    Args:
        models_dir: The folder of all.
        text: ``name`` for all versions of it, ``name/version`` for one; without it, all that there are.

    Raises:
        TrainingError: There is none; the message names those that there are.
    """
    with told_as_training_errors(f"bundles in {models_dir}"):
        refs = find_bundles(models_dir)
    if text is None:
        return refs
    name, _, version = text.partition("/")
    if version and not is_version(version):
        raise TrainingError(f"{text!r} is no bundle: write NAME or NAME/VERSION, as cnn or cnn/1")
    found = [ref for ref in refs if ref.name == name and version in ("", str(ref.version))]
    if not found:
        have = ", ".join(label(ref) for ref in refs) or "none"
        raise TrainingError(f"there is no bundle {text!r} in {models_dir}, there are: {have}")
    return found


def open_newest(models_dir: Path, text: str) -> Bundle:
    """Open the bundle ``name/version``, or the newest of ``name``.

    Raises:
        TrainingError: There is none, or its manifest is damaged.
    """
    return opened(find(models_dir, text)[-1])


def opened(ref: BundleRef) -> Bundle:
    """Open a bundle.

    Raises:
        TrainingError: Its manifest is damaged.
    """
    with told_as_training_errors(label(ref)):
        return open_bundle(ref)


def label(what: BundleRef | Manifest) -> str:
    """Return name and version, as people write them."""
    return f"{what.name}/{what.version}"


def expect_outside(output: Path, models_dir: Path) -> None:
    """Refuse to write where bundles lie, which are immutable.

    Raises:
        TrainingError: The output is the models folder, lies in it, or holds it.
    """
    target, models = output.resolve(), models_dir.resolve()
    if target.is_relative_to(models) or models.is_relative_to(target):
        raise TrainingError(
            f"{output} and the bundles in {models_dir} are in each other's way; choose another --output"
        )


@contextmanager
def told_as_training_errors(what: str) -> Iterator[None]:
    """Make the faults of a bundle, which are the service's own errors, errors of training.

    Args:
        what: Begins the message.
    """
    try:
        yield
    except (TrainingError, OSError):
        raise
    except Exception as exc:  # the service's errors, which training does not import, and those of each runtime
        first = str(exc).strip().partition("\n")[0]
        raise TrainingError(f"{what}: {first or type(exc).__name__}") from exc


def network_of(bundle: Bundle) -> nn.Module:
    """Return the network of a bundle, from its ``state_dict``, in inference mode.

    Raises:
        TrainingError: There is no such artifact, it is damaged, or no architecture of that name fits it.
    """
    architecture = bundle.manifest.architecture
    with told_as_training_errors(label(bundle.manifest)):
        weights = bundle.read(bundle.artifact(state_dict.FORMAT))
        return state_dict.load(architectures.build(architecture.name, architecture.config), weights)


def served(bundle: Bundle) -> nn.Module:
    """Return the network of a bundle as it is served.

    Raises:
        TrainingError: See :func:`network_of`.
    """
    return architectures.as_served(network_of(bundle), temperature=bundle.manifest.temperature).eval()


def runner(bundle: Bundle, artifact: Artifact, *, trusted: bool = False) -> verify.Run:
    """Return what runs an artifact of a bundle.

    Args:
        bundle: Opened.
        artifact: One of its manifest.
        trusted: Whether a file may be run that is a program: TorchScript.

    Raises:
        TrainingError: It is damaged, of an unknown format, or a program that nobody trusts.
    """
    manifest = bundle.manifest
    if artifact.format == torchscript.FORMAT and not trusted:
        raise TrainingError(
            f"{artifact.key} of {label(manifest)} is a program: --trust-torchscript runs it, where you know who made it"
        )
    outputs = tuple(spec.name for spec in manifest.outputs)
    load: dict[str, Callable[[bytes], verify.Run]] = {
        onnx.FORMAT: verify.onnx_runner,
        torchscript.FORMAT: lambda content: torchscript.runner(
            content, [spec.name for spec in manifest.inputs], outputs
        ),
        torch_export.FORMAT: lambda content: torch_export.runner(
            # torch would run what such an archive may carry
            clean(content, is_operator=lambda target: target.startswith("torch.ops.aten.")),
            manifest.inputs,
            outputs,
            fixed_axes=artifact.fixed_axes,
        ),
        state_dict.FORMAT: lambda content: verify.eager_runner(served(bundle), outputs),
    }
    if artifact.format not in load:
        raise TrainingError(f"nothing here runs {artifact.key!r} of {label(manifest)}")
    with told_as_training_errors(f"{artifact.key} of {label(manifest)}"):
        return load[artifact.format](bundle.read(artifact))


def origin_of(bundle: Bundle, data_dir: Path | None) -> Origin:
    """Read the data set of a bundle, and see it as what the bundle was trained for.

    Raises:
        TrainingError: There is no recipe of the bundle's name, the data are missing, or not those of the bundle.
    """
    manifest = bundle.manifest
    if manifest.name not in models_to_train():
        raise TrainingError(
            f"{label(manifest)}: there is no recipe {manifest.name!r} to tell its data set, there are: "
            + ", ".join(models_to_train())
        )
    recipe = config.recipe(manifest.name)
    if isinstance(recipe, TrainConfig):
        recipe = dataclasses.replace(recipe, data_options={**recipe.data_options, **_bounds(manifest.task)})
    rows = data.load(recipe.data_set, data_dir)
    if manifest.training is not None and manifest.training.data.files != rows.files:
        raise TrainingError(
            f"{label(manifest)} was trained on {manifest.training.data.name} of other digests than the {rows.name} here"
        )
    try:
        problem = pipeline.problem_of(recipe, rows)
    except ValueError as exc:
        raise TrainingError(f"{label(manifest)}: {exc}") from exc
    if (problem.inputs, problem.outputs) != (manifest.inputs, manifest.outputs):
        raise TrainingError(f"{label(manifest)} has other inputs or outputs than the recipe {recipe.name!r} gives")
    preparation = None
    if manifest.task.kind == "text_classification":
        text = manifest.task.text
        with told_as_training_errors(label(manifest)):
            preparation = TextPreparation(bundle.read(text.tokenizer), text.max_chars, text.max_tokens)
    return Origin(config=recipe, problem=problem, preparation=preparation)


def _bounds(task: TaskSettings) -> dict[str, Any]:
    """Return the options of a problem that a bundle tells, whatever its recipe says by now."""
    if task.kind == "text_classification":
        return {"max_chars": task.text.max_chars, "max_tokens": task.text.max_tokens}
    if task.kind == "sequence_classification":
        return {"min_length": task.sequence.min_length, "max_length": task.sequence.max_length}
    if task.kind == "image_reconstruction":
        return {"code_size": task.code_size, "threshold_quantile": task.threshold_quantile}
    return {}
