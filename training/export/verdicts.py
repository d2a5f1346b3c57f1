"""Which forms of a network are shipped: what was measured of each, the rule, and what follows for the bundle."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.bundle.loader import MANIFEST_FILE, Bundle
from app.bundle.manifest import Artifact, Golden, Tolerance
from training.export import bundle, mobile, prune, quantize, torch_export, torchscript

INT8 = f"{quantize.FORMAT}-{quantize.VARIANT}"
PRUNED = f"{prune.FORMAT}-{prune.VARIANT}"
MOBILE = f"{mobile.FORMAT}-{mobile.VARIANT}"
KEYS = (INT8, torchscript.FORMAT, torch_export.FORMAT, MOBILE, PRUNED)

# in shares of the test set
MAX_LOSS = 0.01
MAX_LOSS_INT8 = 0.005
MIN_SHRINKAGE_INT8 = 3.0
# above this share of the float32 file, weights are what int8 is there to shrink
WEIGHTS_DOMINATE = 0.9
# timings of one file differ by this much from one moment to the next
NOISE = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured of one file.

    Attributes:
        score: Over the test set; a share, where more is better: accuracy, or R2.
        size_bytes: Of the file.
        latency_ms: Median milliseconds of a call, by its number of rows.
        reference_latency_ms: Those of the float32 ONNX model, taken in turns with it.
    """

    score: float
    size_bytes: int
    latency_ms: dict[str, float]
    reference_latency_ms: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A variant that is not shipped."""

    key: str
    reason: str
    figures: Figures | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """A variant that has earned its place.

    Attributes:
        artifact: For the manifest.
        files: Its bytes, by path in the bundle.
        tolerance: By output, for golden replay: against the network's rows, or against its own.
        figures: What was measured.
    """

    artifact: Artifact
    files: dict[str, bytes]
    tolerance: dict[str, Tolerance]
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What became of every variant."""

    shipped: tuple[Shipped, ...]
    rejected: tuple[Rejected, ...]

    def golden(self, golden: Golden) -> Golden:
        """Return a manifest's golden part with the tolerances of what is shipped."""
        most = {each.artifact.key: max(each.tolerance.values(), key=lambda t: t.atol) for each in self.shipped}
        own = {each.artifact.key: each.tolerance for each in self.shipped if len(set(each.tolerance.values())) > 1}
        return golden.model_copy(
            update={
                "tolerance": {**golden.tolerance, **most},
                "output_tolerance": {**golden.output_tolerance, **own},
            }
        )


def extend(source: Bundle, choice: Choice, models_dir: Path) -> Path:
    """Write a bundle once more below another folder, with the variants that are shipped.

    Args:
        source: The bundle as it is; its own artifacts come first, in their order.
        choice: What is added.
        models_dir: Where the new bundle goes, under its name and version; what lies there is replaced.

    Returns:
        The new bundle's folder.
    """
    manifest = source.manifest.model_copy(
        update={
            "artifacts": (*source.manifest.artifacts, *(each.artifact for each in choice.shipped)),
            "golden": choice.golden(source.manifest.golden),
        }
    )
    folders = (path for path in source.folder.rglob("*") if path.is_file() and path.name != MANIFEST_FILE)
    files = {path.relative_to(source.folder).as_posix(): path.read_bytes() for path in folders}
    for each in choice.shipped:
        files |= each.files
    shutil.rmtree(models_dir / manifest.name / str(manifest.version), ignore_errors=True)
    return bundle.write_bundle(models_dir, type(manifest).model_validate(manifest.model_dump()), files)


def fault_of(key: str, figures: Figures, reference: Figures, *, weights_share: float) -> str | None:
    """Return why a variant is not shipped, or None where it is.

    Everything may lose one point at most. Int8 may lose half a point, has to be smaller by three where weights dominate
    the file, and faster; a pruned network has to be smaller and faster. Faster means: on the whole of one row and of a
    full batch, and slower in neither.

    Args:
        key: Of the variant.
        figures: Of the variant.
        reference: Of the float32 ONNX model.
        weights_share: Of that model's bytes, how many are large weights.
    """
    loss = reference.score - figures.score
    allowed = MAX_LOSS_INT8 if key == INT8 else MAX_LOSS
    if not loss <= allowed:  # a score that is no number is a fault too
        return f"loses {loss * 100:.2f} points, and {allowed * 100:g} are allowed"
    if key not in (INT8, PRUNED):
        return None
    shrinkage = reference.size_bytes / figures.size_bytes
    if key == INT8 and weights_share >= WEIGHTS_DOMINATE and shrinkage < MIN_SHRINKAGE_INT8:
        return f"is smaller by {shrinkage:.2f} only, and {MIN_SHRINKAGE_INT8:g} are asked for"
    if shrinkage <= 1:
        return f"is not smaller: {figures.size_bytes} bytes against {reference.size_bytes}"
    ratios = [figures.latency_ms[rows] / ms for rows, ms in figures.reference_latency_ms.items()]
    if math.prod(ratios) >= 1 or max(ratios) > NOISE:
        taken = ", ".join(
            f"{figures.latency_ms[rows]:g} ms against {ms:g} for {rows}"
            for rows, ms in figures.reference_latency_ms.items()
        )
        return f"is not faster: {taken}"
    return None


def line_of(key: str, made: Shipped | Rejected) -> str:
    """Return what became of a variant, in one line for people."""
    verdict = "shipped" if isinstance(made, Shipped) else f"not shipped: {made.reason}"
    if made.figures is None:
        return f"{key}: {verdict}"
    figures = made.figures
    timings = ", ".join(f"{ms:g} ms for {rows}" for rows, ms in figures.latency_ms.items())
    return f"{key}: {figures.score:.4f}, {figures.size_bytes / 1e6:.2f} MB, {timings}: {verdict}"


def report(choice: Choice, reference: Sequence[Artifact] = ()) -> list[dict[str, object]]:
    """Return a table for the report: one row a variant, shipped or not, behind those that are there anyway."""
    rows: list[dict[str, object]] = [
        {
            "key": each.key,
            "shipped": True,
            "score": each.test_accuracy,
            "size_bytes": each.size_bytes,
            "latency_ms": each.latency_ms,
        }
        for each in reference
    ]
    found: list[tuple[str, Figures | None, str | None]] = [
        *((each.artifact.key, each.figures, None) for each in choice.shipped),
        *((each.key, each.figures, each.reason) for each in choice.rejected),
    ]
    for key, figures, reason in found:
        rows.append(
            {
                "key": key,
                "shipped": reason is None,
                "score": None if figures is None else figures.score,
                "size_bytes": None if figures is None else figures.size_bytes,
                "latency_ms": None if figures is None else figures.latency_ms,
                "onnx_latency_ms": None if figures is None else figures.reference_latency_ms,
                "reason": reason,
            }
        )
    return rows
