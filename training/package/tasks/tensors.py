"""Tensors in, tensors out."""

from app.bundle.manifest import GenericTensors, TensorBounds, TensorSpec
from app.tensors import LENGTHS
from training.errors import PackageRefused
from training.package.any_tensors import AnyTensors
from training.package.asked import Asked, Found
from training.package.config import Config
from training.package.source import Feed, Head, Source, Steps
from training.package.tasks._shared import inputs_of


def find(source: Source, config: Config, asked: Asked) -> Found | None:
    """Find out; see :func:`training.package.tasks.find`."""
    inputs = inputs_of(source, config, asked)
    if inputs is None:
        return None
    if config.scale is not None or config.mean is not None:
        raise PackageRefused("tensors go into the model as they are: leave scale, mean and std out")
    own = [spec for spec in inputs if spec.name != LENGTHS]
    bounds = {spec.name: _bounds_of(spec, config) for spec in own if spec.dtype != "bool"}
    bounds |= {name: bound for name, bound in config.bounds.items() if name not in bounds}
    open_ones = [name for name, bound in bounds.items() if None in (bound.low, bound.high)]
    if config.golden is None and open_ones:
        example = f"[bounds]\n{open_ones[0]} = {{low = -1.0, high = 1.0}}"
        why = f"what goes into {', '.join(open_ones)}: rows to prove the bundle by are drawn between; or golden"
        asked.need("bounds", example, why)
    axes = dict.fromkeys(axis for spec in inputs for axis in spec.shape[1:] if isinstance(axis, str))
    if without := [axis for axis in axes if axis not in config.max_lengths]:
        example = f'[max_lengths]\n"{without[0]}" = 100'
        asked.need("max_lengths", example, f"of the open axes {', '.join(without)}; only in the TOML file")
        return None
    kept = {name: bound for name, bound in bounds.items() if bound != TensorBounds()}
    kind = AnyTensors(GenericTensors(bounds=kept, max_lengths=config.max_lengths), inputs)
    feeds = tuple(Feed(public=spec, private=spec.name, dtype=spec.dtype) for spec in inputs)
    heads = tuple(Head(public=each.name, private=each.name) for each in source.outputs or () if each.dtype is not None)
    longest = max(config.max_lengths.values(), default=1)
    elements = config.max_rows * longest if len(own) < len(inputs) else None
    return Found(kind=kind, steps=Steps(feeds=feeds, heads=heads), max_elements=elements)


def _bounds_of(spec: TensorSpec, config: Config) -> TensorBounds:
    closer = config.bounds.get(spec.name, TensorBounds())
    try:
        return TensorBounds(
            low=config.low if closer.low is None else closer.low,
            high=config.high if closer.high is None else closer.high,
        )
    except ValueError as exc:
        raise PackageRefused(f"the bounds of {spec.name!r} are impossible: {exc}") from exc
