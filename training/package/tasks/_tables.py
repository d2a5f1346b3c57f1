"""Tables of numbers: their features."""

from app.bundle.manifest import Feature, TensorSpec
from training.errors import PackageRefused
from training.export.tables import INPUT
from training.package.asked import Asked
from training.package.config import Config
from training.package.source import Source
from training.package.tasks._shared import expect_numbers, need_bounds, one_input


def table_of(
    source: Source, config: Config, asked: Asked, task: str
) -> tuple[TensorSpec, TensorSpec, tuple[Feature, ...]] | None:
    """Return what the service feeds, what the model takes, and the features; None where something is missing."""
    private = one_input(source, config, asked, task)
    if private is None:
        return None
    expect_numbers(private, task)
    features = features_of(private, config, asked)
    if features is None:
        return None
    public = TensorSpec(name=INPUT, dtype="float32", shape=("batch", len(features)))
    return public, private, features


def features_of(spec: TensorSpec, config: Config, asked: Asked) -> tuple[Feature, ...] | None:
    axes = spec.shape[1:]
    if len(axes) != 1:
        raise PackageRefused(
            f"a table has one axis of features, and the input {spec.name!r} has the shape {list(spec.shape)}"
        )
    features = config.features
    if features is None:
        count = axes[0] if isinstance(axes[0], int) else "all"
        example = 'features = ["sepal length", "sepal width"]'
        asked.need("features", example, f"the names of {count} columns, in their order; or tables with bounds")
        return None
    if isinstance(axes[0], int) and axes[0] != len(features):
        raise PackageRefused(f"{len(features)} features are named, and the model takes {axes[0]}")
    bounded = tuple(
        feature.model_copy(
            update={
                "minimum": config.low if feature.minimum is None else feature.minimum,
                "maximum": config.high if feature.maximum is None else feature.maximum,
            }
        )
        for feature in features
    )
    try:
        bounded = tuple(Feature.model_validate(feature.model_dump()) for feature in bounded)
    except ValueError as exc:
        raise PackageRefused(f"the bounds of a feature are impossible: {exc}") from exc
    if config.golden is None and any(None in (feature.minimum, feature.maximum) for feature in bounded):
        need_bounds(asked, "of every feature, as rows to prove the bundle by are drawn between them")
    return bounded
