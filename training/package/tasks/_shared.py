"""What several tasks want to know: inputs, labels, scores, bounds."""

from app.bundle.manifest import TensorSpec
from training.errors import PackageRefused
from training.export.verify import PROBABILITIES
from training.package.asked import Asked
from training.package.config import Config
from training.package.source import Feed, Head, Output, Source

LOGITS = "logits"


def inputs_of(source: Source, config: Config, asked: Asked) -> tuple[TensorSpec, ...] | None:
    """Return what goes in, as the file tells it or as it was said."""
    inputs = source.inputs or config.inputs
    if inputs is None:
        example = '[[inputs]]\nname = "x"\ndtype = "float32"\nshape = ["batch", 4]'
        asked.need("inputs", example, "this form of file does not tell what goes in; only in the TOML file")
    return inputs


def one_input(source: Source, config: Config, asked: Asked, task: str) -> TensorSpec | None:
    """Return the one input of a model.

    Raises:
        PackageRefused: It has several.
    """
    inputs = inputs_of(source, config, asked)
    if inputs is None:
        return None
    if len(inputs) != 1:
        told = ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in inputs)
        raise PackageRefused(f"{task} feeds one input, and the model takes {told}; --task tensors feeds any")
    return inputs[0]


def labels_of(source: Source, config: Config, asked: Asked) -> tuple[str, ...] | None:
    """Return the labels, of the file or as they were said."""
    labels = config.labels or source.told.labels
    if labels is None:
        asked.need("labels", 'labels = ["setosa", "versicolor", "virginica"]', "in the order of the outputs")
    elif len(set(labels)) < max(2, len(labels)):
        raise PackageRefused(f"labels are two or more, and distinct; found: {', '.join(labels)}")
    return labels


def score_heads(source: Source, config: Config, asked: Asked) -> tuple[Head, ...]:
    """Return how the outputs become probabilities; asks where the names do not say it."""
    if source.outputs is None:
        return ()
    by_name = {output.name: output for output in source.outputs}
    chosen, meaning = config.scores_output, config.scores
    if chosen is not None and chosen not in by_name:
        raise PackageRefused(f"the model has no output {chosen!r}; it has: {', '.join(by_name)}")
    if chosen is None and meaning is None:
        chosen = next((name for name in (PROBABILITIES, LOGITS) if _is_float(by_name.get(name))), None)
    if chosen is None:
        chosen = _only_float(source.outputs, asked)
    if meaning is None and chosen in (PROBABILITIES, LOGITS):
        meaning = "logits" if chosen == LOGITS else "probabilities"
    elif meaning is None:
        asked.need("scores", 'scores = "logits"', 'what the output holds: "logits" get a softmax, or "probabilities"')
    if chosen is None or meaning is None:
        return ()
    if meaning == "probabilities":
        kept = (LOGITS, PROBABILITIES) if chosen == PROBABILITIES and _is_float(by_name.get(LOGITS)) else ()
        return tuple(Head(public=name, private=name) for name in kept) or (Head(public=PROBABILITIES, private=chosen),)
    return (Head(public=LOGITS, private=chosen), Head(public=PROBABILITIES, private=chosen, step="softmax"))


def _only_float(outputs: tuple[Output, ...], asked: Asked) -> str | None:
    floats = [output.name for output in outputs if _is_float(output)]
    if not floats:
        told = ", ".join(output.name for output in outputs) or "none"
        raise PackageRefused(f"no output of the model holds scores; it has: {told}")
    if len(floats) > 1:
        asked.need("scores_output", f'scores_output = "{floats[0]}"', f"out of {', '.join(floats)}")
        return None
    return floats[0]


def _is_float(output: Output | None) -> bool:
    return output is not None and output.dtype in ("float32", "float64")


def need_bounds(asked: Asked, why: str) -> None:
    """Ask for the bounds of all numbers."""
    asked.need("low", "low = 0.0", f'least number that goes in, {why}; or say golden = "rows.npz"')
    asked.need("high", "high = 100.0", "greatest number that goes in")


def feed_of(public: TensorSpec, private: TensorSpec, config: Config, tail: tuple[int, ...] | None = None) -> Feed:
    """Return how an input is fed, with the scaling that was asked for."""
    return Feed(
        public=public,
        private=private.name,
        dtype=private.dtype,
        tail=tail,
        scale=config.scale,
        mean=config.mean,
        std=config.std,
    )


def expect_numbers(spec: TensorSpec, task: str) -> None:
    """Refuse an input of truth values."""
    if spec.dtype == "bool":
        raise PackageRefused(f"{task} feeds numbers, and the input {spec.name!r} takes truth values")
