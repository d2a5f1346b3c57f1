"""Every further form of a trained network: built, proven, measured, and shipped only where it has earned it.

The plain forms (TorchScript, exported program, mobile) must answer as the network does. Int8
states by how much it does not. A pruned network is another one: it has golden rows of its own, which it must answer as
it did before it was exported. Either is shipped where it is worth it: :func:`training.export.verdicts.fault_of`. What
is not shipped is reported with its figures and the reason.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import nn

from app.bundle.golden import GoldenRows, dump_golden
from app.bundle.loader import Bundle
from app.bundle.manifest import Artifact, TensorSpec, Tolerance
from app.tensors import Tensors, concat, take
from training import architectures
from training.errors import NotExportable, NotProven
from training.export import bundle, mobile, onnx, prune, quantize, state_dict, torch_export, torchscript, verify
from training.export import manifest as parts
from training.export.candidates import MAX_ROWS, NUM_BATCH_CHECKED, Say
from training.export.verdicts import INT8, KEYS, MOBILE, PRUNED, Choice, Figures, Rejected, Shipped, fault_of, line_of

# how often a variant and the float32 model are timed, in turns
_ROUNDS = 3

Timer = Callable[[verify.Run, Tensors], dict[str, float]]

# of the pruned network
GOLDEN_FILE = "golden.pruned.npz"

# a stated tolerance is the largest difference found, and this much more, as there are rows that were not looked at
_MARGIN = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A trained network, and the rows that its variants are made with and measured on.

    Attributes:
        served: As it is served, in inference mode.
        inputs: Of the manifest.
        outputs: Of the manifest.
        graph: Its ONNX model, float32: what variants are compared with.
        golden: The rows that the service will replay.
        calibration: Inputs of training rows; a few hundred.
        validation: Inputs of validation rows, on which tolerances are measured.
        test: Inputs of the whole test set.
        score: From the outputs of the test set to a share, where more is better: accuracy, or R2.
        has_accuracy: Whether that is an accuracy, for the manifest.
        int8: Integers throughout, or weights only; None where neither is wanted.
        longest: The greatest length of each named axis beyond the batch.
        pruned: Makes the smaller network, as it is served; None where units cannot be removed.
        respond: From outputs to one prediction a row, as it stands in the body of a response; needed for ``pruned``.
    """

    served: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    graph: bytes
    golden: GoldenRows
    calibration: Tensors
    validation: Tensors
    test: Tensors
    score: Callable[[Tensors], float]
    has_accuracy: bool = True
    int8: Literal["static", "weight_only"] | None = "static"
    longest: Mapping[str, int] = field(default_factory=dict)
    pruned: Callable[[], nn.Module] | None = None
    respond: Callable[[Tensors], list[Any]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One further form of the network.

    Attributes:
        format: Names the backend.
        variant: What was done to the network; None where it answers as before.
        path: In the bundle.
        content: The file.
        run: Runs exactly these bytes.
        fixed_axes: Named axes that it fixes.
        network: The module that it was made of, where that is not the subject's.
        extras: Further files of the bundle, which the manifest does not describe.
    """

    format: str
    variant: str | None
    path: str
    content: bytes
    run: verify.Run
    fixed_axes: dict[str, int] = field(default_factory=dict)
    network: nn.Module | None = None
    extras: dict[str, bytes] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """As :attr:`app.bundle.manifest.Artifact.key`."""
        return self.format if self.variant is None else f"{self.format}-{self.variant}"


def served_of(source: Bundle) -> nn.Module:
    """Rebuild the network of a bundle from its safetensors, as it is served.

    Raises:
        BundleError: The bundle has no ``state_dict``, or another file than its manifest describes.
        ValueError: Its architecture is not registered, or its config impossible.
    """
    manifest = source.manifest
    network = architectures.build(manifest.architecture.name, manifest.architecture.config)
    loaded = state_dict.load(network, source.read(source.artifact(state_dict.FORMAT)))
    return architectures.as_served(loaded, temperature=manifest.temperature).eval()


def choose(
    subject: Subject,
    *,
    keys: Collection[str] = KEYS,
    say: Say = lambda text: None,
    timer: Timer = verify.latency_ms,
) -> Choice:
    """Build, prove and measure variants, and decide which are shipped.

    Args:
        subject: The network and its rows.
        keys: The variants that are wanted, among ``KEYS``.
        say: Called with lines for people.
        timer: Returns the median milliseconds of a call by its number of rows.

    Raises:
        ValueError: A key is not known.
    """
    if unknown := sorted(set(keys) - set(KEYS)):
        raise ValueError(f"no variants {unknown}; there are: {', '.join(KEYS)}")
    reference = verify.onnx_runner(subject.graph)
    names = tuple(spec.name for spec in subject.outputs)
    expected = verify.run_in_batches(verify.eager_runner(subject.served, names), subject.test, MAX_ROWS)
    reference_score = subject.score(verify.run_in_batches(reference, subject.test, MAX_ROWS))
    shipped: list[Shipped] = []
    rejected: list[Rejected] = []
    for key, build in _builders(subject):
        if key not in keys:
            continue
        try:
            made = _earned(build(), subject, reference, reference_score, expected, timer)
        except (NotExportable, NotProven) as exc:
            made = Rejected(key=key, reason=str(exc))
        if isinstance(made, Shipped):
            shipped.append(made)
        else:
            rejected.append(made)
        say(line_of(key, made))
    return Choice(shipped=tuple(shipped), rejected=tuple(rejected))


def _builders(subject: Subject) -> Iterator[tuple[str, Callable[[], Variant]]]:
    """Yield the variants that a subject can have, and how each is built."""
    inputs, outputs = subject.inputs, subject.outputs
    names = tuple(spec.name for spec in outputs)

    def int8() -> Variant:
        is_static = subject.int8 == "static"
        content = (
            quantize.dump_static(subject.graph, subject.calibration)
            if is_static
            else quantize.dump_weight_only(subject.graph)
        )
        return _onnx_variant(quantize.VARIANT, quantize.FILE_NAME, content)

    def script() -> Variant:
        content = torchscript.dump(subject.served, inputs, outputs)
        run = torchscript.runner(content, [spec.name for spec in inputs], names)
        return Variant(
            format=torchscript.FORMAT, variant=None, path=torchscript.FILE_NAME, content=content, run=run
        )  # fmt: skip

    def exported() -> Variant:
        content, fixed = torch_export.dump_or_fix(subject.served, inputs, outputs, longest=subject.longest)
        run = torch_export.runner(content, inputs, names, fixed_axes=fixed)
        path = torch_export.FILE_NAME
        return Variant(
            format=torch_export.FORMAT, variant=None, path=path, content=content, run=run, fixed_axes=fixed
        )  # fmt: skip

    def for_phones() -> Variant:
        content = mobile.dump(subject.graph)
        operators = {mobile.OPERATORS_FILE_NAME: mobile.required_operators(content)}
        return _onnx_variant(mobile.VARIANT, mobile.FILE_NAME, content, operators)

    def smaller() -> Variant:
        assert subject.pruned is not None
        network = subject.pruned()
        content = prune.dump(network, inputs, outputs)
        return replace(_onnx_variant(prune.VARIANT, prune.FILE_NAME, content), network=network)

    if subject.int8 is not None:
        yield INT8, int8
    yield torchscript.FORMAT, script
    yield torch_export.FORMAT, exported
    yield MOBILE, for_phones
    if subject.pruned is not None:
        yield PRUNED, smaller


def _onnx_variant(variant: str, path: str, content: bytes, extras: dict[str, bytes] | None = None) -> Variant:
    run = verify.onnx_runner(content)
    return Variant(
        format=onnx.FORMAT, variant=variant, path=path, content=content, run=run, extras=extras or {}
    )  # fmt: skip


def _earned(
    variant: Variant,
    subject: Subject,
    reference: verify.Run,
    reference_score: float,
    expected: Tensors,
    timer: Timer,
) -> Shipped | Rejected:
    """Prove and measure one variant, and decide.

    Raises:
        NotProven: It answers otherwise than it states, or otherwise in a batch than alone.
    """
    validation = take(subject.validation, 0, NUM_BATCH_CHECKED)
    tolerance = dict.fromkeys((spec.name for spec in subject.outputs), parts.TOLERANCE)
    if variant.key == INT8:
        tolerance = _measured_tolerance(variant, subject, validation)
    golden = subject.golden if variant.network is None else _own_golden(variant.network, subject)
    verify.expect_proven(variant.run(golden.inputs), golden.outputs, tolerance, what=f"golden rows of {variant.key}")
    for inputs in (golden.inputs, validation):
        singles, full = verify.alone(variant.run, inputs), verify.run_in_batches(variant.run, inputs, MAX_ROWS)
        verify.expect_proven(full, singles, parts.BATCH_TOLERANCE, what=f"{variant.key} in full batches against alone")
    actual = verify.run_in_batches(variant.run, subject.test, MAX_ROWS)
    timed = take(subject.test, 0, max(verify.LATENCY_ROWS))
    rounds = [(timer(reference, timed), timer(variant.run, timed)) for _ in range(_ROUNDS)]
    # the least of several: what else the machine does only ever adds
    reference_ms, latency_ms = (
        {rows: min(each[rows] for each in of) for rows in of[0]} for of in zip(*rounds, strict=True)
    )
    figures = Figures(
        score=subject.score(actual),
        size_bytes=len(variant.content),
        latency_ms=latency_ms,
        reference_latency_ms=reference_ms,
    )
    of_reference = Figures(
        score=reference_score,
        size_bytes=len(subject.graph),
        latency_ms=reference_ms,
        reference_latency_ms=reference_ms,
    )
    share = quantize.weights_share(subject.graph)
    if (reason := fault_of(variant.key, figures, of_reference, weights_share=share)) is not None:
        return Rejected(key=variant.key, reason=reason, figures=figures)
    artifact = Artifact(
        **bundle.file_ref(variant.path, variant.content).model_dump(),
        format=variant.format,
        variant=variant.variant,
        fixed_axes=variant.fixed_axes,
        test_accuracy=figures.score if subject.has_accuracy else None,
        latency_ms=latency_ms,
        parity=verify.parity(actual, expected),
    )
    files = {variant.path: variant.content, **variant.extras}
    if variant.network is not None:
        files[GOLDEN_FILE] = dump_golden(golden)
        own = bundle.file_ref(GOLDEN_FILE, files[GOLDEN_FILE])
        artifact = artifact.model_copy(update={"golden": own})
    return Shipped(artifact=artifact, files=files, tolerance=tolerance, figures=figures)


def _own_golden(network: nn.Module, subject: Subject) -> GoldenRows:
    """Return the golden rows as another network answers them."""
    if subject.respond is None:
        raise ValueError("a pruned network needs Subject.respond, for golden rows of its own")
    outputs = verify.eager_runner(network, tuple(spec.name for spec in subject.outputs))(subject.golden.inputs)
    return replace(subject.golden, outputs=outputs, responses=subject.respond(outputs))


def _measured_tolerance(variant: Variant, subject: Subject, validation: Tensors) -> dict[str, Tolerance]:
    """Return how far each output lies from the network's over golden and validation rows, rounded up."""
    names = tuple(spec.name for spec in subject.outputs)
    eager = verify.eager_runner(subject.served, names)
    expected = concat([subject.golden.outputs, verify.run_in_batches(eager, validation, MAX_ROWS)])
    actual = concat(
        [verify.run_in_batches(variant.run, rows, MAX_ROWS) for rows in (subject.golden.inputs, validation)]
    )
    largest = verify.max_differences(actual, expected)
    return {name: Tolerance(atol=rounded_up(_MARGIN * largest[name])) for name in names}


def rounded_up(value: float) -> float:
    """Return the next number of one significant digit, and not less than the tolerance of the plain formats.

    Raises:
        NotProven: It is not finite.
    """
    if not math.isfinite(value):
        raise NotProven(f"the outputs differ by {value}")
    if value <= parts.TOLERANCE.atol:
        return parts.TOLERANCE.atol
    digit = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.ceil(value / digit) * digit:.1g}")
