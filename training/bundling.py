"""From a trained network to its bundle: all is proven, measured and drawn, and then written at once."""

import dataclasses
import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from app.bundle.golden import GoldenRows, dump_golden
from app.bundle.manifest import Architecture, Artifact, Batching, Calibration, Manifest, TaskSettings
from app.tensors import Tensors, take
from training import architectures
from training.epochs import Epoch
from training.export import bundle, onnx, state_dict, verify
from training.export import manifest as parts
from training.export.candidates import (
    GOLDEN_FILE,
    MAX_ROWS,
    Candidate,
    Say,
    golden_part,
    measure,
    prove,
    report_json,
)
from training.export.variants import Subject, choose
from training.export.verdicts import INT8, Choice
from training.export.verdicts import report as variants_report
from training.problems import Found, Problem
from training.report import MODEL_CARD, Course, Notes, model_card
from training.trained import Trained

NUM_CALIBRATION = 512
# explanations are of real rows, and slow
NUM_EXPLAINED = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Product:
    """A network as it is served, with all that follows from it alone."""

    served: Any
    run: verify.Run
    settings: TaskSettings
    golden: GoldenRows
    golden_bytes: bytes
    graph: bytes
    temperature: float | None

    @classmethod
    def of(cls, trained: Trained, problem: Problem[Any]) -> "_Product":
        temperature = None if trained.reference else problem.temperature(trained.network)
        served = trained.served(temperature=temperature)
        run = trained.run(served, problem.outputs)
        settings = problem.settings(run)
        golden = problem.golden(run, settings)
        return cls(
            served=served,
            run=run,
            settings=settings,
            golden=golden,
            golden_bytes=dump_golden(golden),
            graph=trained.onnx(served, problem.inputs, problem.outputs),
            temperature=temperature,
        )


def export(
    trained: Trained,
    problem: Problem[Any],
    models_dir: Path,
    *,
    version: int | None = None,
    variants: Collection[str] = (INT8,),
    explained: bool = True,
    say: Say = lambda text: None,
) -> Path:
    """Export a trained network, prove each artifact on the whole test set, and write the bundle.

    Args:
        trained: A finished training.
        problem: What it was trained for; the test split is looked at here for the first time.
        models_dir: Where bundles lie.
        version: Of the bundle; without it the next free one.
        variants: Further forms that go in where they have earned it, among `training.export.verdicts.KEYS`.
        explained: Whether the report explains the network; takes a minute.
        say: Called with lines for people.

    Returns:
        The bundle's folder.

    Raises:
        NotProven: An artifact does not answer as the network does.
        VersionExists: That version is there already.
    """
    data = problem.data
    product = _Product.of(trained, problem)
    validation_inputs, test_inputs = problem.tensors(data.validation), problem.tensors(data.test)
    expected = verify.run_in_batches(product.run, test_inputs, MAX_ROWS)
    artifacts = _proven(product, trained, problem, validation_inputs, test_inputs, expected, say)
    subject = subject_of(problem, served=product.served, graph=product.graph, golden=product.golden)
    choice = choose(subject, keys=variants, say=say)
    evaluation = problem.evaluate(
        Found(
            run=product.run,
            course=_course(trained, problem),
            sample=verify.run_in_batches(product.run, problem.tensors(problem.sample()), MAX_ROWS),
            validation=verify.run_in_batches(product.run, validation_inputs, MAX_ROWS),
            test=expected,
            temperature=product.temperature or 1.0,
            settings=product.settings,
        )
    )
    measured = evaluation.metrics | {"validation_loss": trained.validation["validation_loss"]} | trained.further_metrics
    for name, value in measured.items():
        say(f"{name} {value:.4f}")
    say(f"fit: {evaluation.verdict.kind}; {evaluation.verdict.reason}")
    manifest = Manifest(
        schema_version=1,
        name=trained.name,
        version=version or bundle.next_version(models_dir, trained.name),
        description=f"{architectures.describe(trained.architecture)} Trained on {data.name}.",
        license="Apache-2.0",
        task=product.settings,
        architecture=Architecture(name=trained.architecture, config=trained.network_config),
        calibration=None if product.temperature is None else Calibration(temperature=product.temperature),
        inputs=problem.inputs,
        outputs=problem.outputs,
        artifacts=(*artifacts, *(each.artifact for each in choice.shipped)),
        batching=Batching(max_rows=MAX_ROWS, max_elements=problem.max_elements),
        golden=choice.golden(golden_part(product.golden_bytes, len(product.golden), artifacts)),
        training=parts.training_record(trained, data),
        metrics=measured,
        input_statistics=problem.statistics(),
    )
    files = {onnx.FILE_NAME: product.graph, state_dict.FILE_NAME: trained.weights, GOLDEN_FILE: product.golden_bytes}
    for shipped in choice.shipped:
        files |= shipped.files
    files |= problem.files() | evaluation.files() | _reports(trained, problem, expected, choice, artifacts)
    if explained:
        files |= _explanations(trained, problem, manifest, say)
    card = model_card(manifest, evaluation, Notes(privacy=problem.privacy) if problem.privacy else None)
    return bundle.write_bundle(models_dir, manifest, files | {MODEL_CARD: card.encode()})


def _proven(
    product: _Product,
    trained: Trained,
    problem: Problem[Any],
    validation_inputs: Tensors,
    test_inputs: Tensors,
    expected: Tensors,
    say: Say,
) -> tuple[Artifact, ...]:
    """Prove and measure the two forms that every bundle has."""
    eager = verify.eager_runner(product.served, tuple(spec.name for spec in problem.outputs))
    run_graph = verify.onnx_runner(product.graph)
    candidates = (
        Candidate(fmt=onnx.FORMAT, path=onnx.FILE_NAME, content=product.graph, run=run_graph),
        Candidate(fmt=state_dict.FORMAT, path=state_dict.FILE_NAME, content=trained.weights, run=eager),
    )
    for candidate in candidates:
        prove(candidate, product.golden, validation_inputs, say)
    accuracy: Callable[[Tensors], float | None] = functools.partial(problem.accuracy, rows=problem.data.test)
    return tuple(measure(each, test_inputs, expected, say, accuracy=accuracy) for each in candidates)


def subject_of(
    problem: Problem[Any],
    *,
    served: nn.Module,
    graph: bytes,
    golden: GoldenRows,
    tensors: Callable[[Any], Tensors] | None = None,
    pruned: Callable[[], nn.Module] | None = None,
    respond: Callable[[Tensors], list[Any]] | None = None,
) -> Subject:
    """Return a network with the rows that its variants are made with and measured on.

    Args:
        problem: What it was trained for.
        served: As it is served.
        graph: Its ONNX model, float32.
        golden: The rows that the service will replay.
        tensors: Makes rows of a split what the network takes, where that is not the problem's.
        pruned: See :class:`training.export.variants.Subject`.
        respond: See there.
    """
    data, tensors = problem.data, tensors or problem.tensors
    return Subject(
        served=served,
        inputs=problem.inputs,
        outputs=problem.outputs,
        graph=graph,
        golden=golden,
        calibration=take(tensors(problem.sample()), 0, NUM_CALIBRATION),
        validation=tensors(data.validation),
        test=tensors(data.test),
        score=functools.partial(problem.score, rows=data.test),
        has_accuracy=problem.score_name == "accuracy",
        int8=problem.int8,
        longest=problem.longest,
        pruned=pruned,
        respond=respond,
    )


def _course(trained: Trained, problem: Problem[Any]) -> Course:
    scores = [epoch.validation_score for epoch in trained.history if isinstance(epoch, Epoch)]
    return Course(
        history=trained.history,
        best_epoch=trained.best_epoch,
        stopped_early=trained.stopped == "early",
        validation_scores=scores or None,
        score_name=problem.score_name,
    )


def _reports(
    trained: Trained, problem: Problem[Any], outputs: Tensors, choice: Choice, artifacts: tuple[Artifact, ...]
) -> dict[str, bytes]:
    reports: dict[str, object] = {
        "history": [dataclasses.asdict(epoch) for epoch in trained.history],
        "variants": variants_report(choice, artifacts),
    }
    reports |= problem.reports(outputs, problem.data.test) | trained.further_reports
    return {f"report/{name}.json": report_json(report) for name, report in reports.items()}


def _explanations(trained: Trained, problem: Problem[Any], manifest: Manifest, say: Say) -> dict[str, bytes]:
    # captum takes seconds to import
    from training.explain import reports

    rows = problem.data.validation.take(np.arange(min(NUM_EXPLAINED, len(problem.data.validation))))
    subject = reports.Subject.of(
        trained.architecture,
        trained.network_config,
        state_dict.load(architectures.build(trained.architecture, trained.network_config), trained.weights),
        temperature=manifest.temperature,
    )
    tokenizer = problem.files().get("tokenizer.json")
    found = reports.explain(subject, manifest, problem.tensors(rows), problem.targets(rows), tokenizer=tokenizer)
    for name, value in found.figures.items():
        say(f"explanations: {name} {value:.4f}")
    return found.files
