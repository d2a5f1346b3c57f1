"""The whole way of somebody's own model: file and words in, a proven bundle out."""

import zipfile
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.bundle.golden import GoldenRows, dump_golden
from app.bundle.manifest import Architecture, Artifact, Batching, Manifest, TensorSpec
from app.tensors import Tensors
from training.errors import PackageRefused
from training.export import bundle, verify
from training.export.bundle import Seal
from training.export.candidates import GOLDEN_FILE, Say, golden_part
from training.package import hugging_face, onnx_file, proof, rows, torch_file, weights_file
from training.package.config import Config
from training.package.contract import Contract, agree
from training.package.kind import Kind, Requests
from training.package.source import Built, Source

# length of open axes in golden rows that are drawn
_STEPS = 5


def package(
    path: Path, config: Config, models_dir: Path, *, say: Say = lambda text: None, seal: Seal | None = None
) -> Path:
    """Make a bundle of a model's file.

    Args:
        path: An ``.onnx``, ``.pt2``, TorchScript, ``.safetensors`` or ``.pth`` file, or a folder as exporters of
            Hugging Face models write it.
        config: What was said.
        models_dir: Where bundles lie.
        say: Called with lines for people.
        seal: Signs the folder before anybody sees it; None for no signature.

    Returns:
        The bundle's folder.

    Raises:
        SettingsMissing: Something has not been said; the message names all of it.
        PackageRefused: The file, or what was said, cannot be made into a bundle.
        NotExportable: The steps around a torch model cannot be exported.
        NotProven: The model answers otherwise in a batch, or at another call.
        VersionExists: That version is there already.
        OSError: A file cannot be read or written.
    """
    try:
        return _package(path, config, models_dir, say, seal)
    except ValidationError as exc:  # names or numbers that no manifest can hold
        raise PackageRefused(f"this cannot be written into a manifest: {exc}") from exc


def _package(path: Path, config: Config, models_dir: Path, say: Say, seal: Seal | None) -> Path:
    source = read(path, config)
    contract = agree(source, config, path)
    version = config.version or bundle.next_version(models_dir, contract.name)
    bundle.expect_free(models_dir, contract.name, version)
    kind = contract.found.kind
    reference, built = source.build(contract.found.steps, kind.inputs)
    say(f"{path.name}: {kind.settings.kind}, {', '.join(each.format for each in built)}")

    requests = _golden_requests(kind, config)
    inputs = kind.tensors(requests)
    outputs = proof.answer(reference, inputs, requests)
    proof.expect_labels(outputs, kind.labels)
    names = [head.public for head in contract.found.steps.heads]
    specs = proof.output_specs(reference, inputs, kind.inputs, names)
    outputs = {name: outputs[name] for name in names}
    golden = GoldenRows(requests=requests, inputs=inputs, outputs=outputs, responses=kind.responses(outputs))
    for each in built:
        differences = proof.prove(each.run, inputs, outputs, what=each.format, max_rows=config.max_rows)
        told = ", ".join(f"{name} {value:.2g}" for name, value in differences.items())
        say(f"{each.format}: {len(golden)} golden rows, largest difference of alone and in batches: {told}")
    tested = _Tested(config, kind)
    artifacts = tuple(_described(each, reference, tested, inputs, outputs) for each in built)
    metrics = tested.metrics(reference)
    for name, value in metrics.items():
        say(f"{name} {value:.4f} on {tested.count} rows")
    manifest = _manifest(source, contract, config, version, specs, artifacts, golden, metrics)
    files = {**{each.path: each.content for each in built}, GOLDEN_FILE: dump_golden(golden), **contract.found.files}
    return bundle.write_bundle(models_dir, manifest, files, seal=seal)


def read(path: Path, config: Config) -> Source:
    """Read a file by what it is: its name, and where that does not say it, its content.

    Raises:
        PackageRefused: It is nothing that is known here, or damaged.
        OSError: It cannot be read.
    """
    if path.is_dir():
        return hugging_face.read(path)
    if path.suffix == ".onnx":
        return onnx_file.read(path)
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        return weights_file.read(data, path, config)
    parts = _parts(path)
    if any(part.endswith("/archive_format") for part in parts) or path.suffix == ".pt2":
        return torch_file.read_exported(data, path, config)
    if any("/code/" in part for part in parts):
        return torch_file.read_torchscript(data, path, config)
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        return weights_file.read(data, path, config)
    raise PackageRefused(
        f"{path} is nothing that is known here: .onnx, .pt2, TorchScript, .safetensors, .pth, or a folder as exporters "
        "of Hugging Face models write it"
    )


def _parts(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return []


def _golden_requests(kind: Kind, config: Config) -> Requests:
    if config.golden is None:
        return rows.draw(kind, seed=config.seed, steps=_STEPS)
    return rows.read(config.golden, kind).requests[: rows.MAX_GOLDEN]


class _Tested:
    """The test rows, if there are any, and what is measured on them."""

    def __init__(self, config: Config, kind: Kind) -> None:
        self._labels = kind.labels
        self._max_rows = config.max_rows
        self._inputs: Tensors | None = None
        self._answers: list[Any] = []
        if config.test is not None:
            found = rows.read(config.test, kind)
            if found.answers is None:
                raise PackageRefused(f"{config.test} has no labels or targets, so nothing can be measured on it")
            self._inputs, self._answers = kind.tensors(found.requests), found.answers

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._answers)

    def outputs(self, run: verify.Run) -> Tensors | None:
        """Return what a model makes of them."""
        return None if self._inputs is None else verify.run_in_batches(run, self._inputs, self._max_rows)

    def metrics(self, run: verify.Run) -> dict[str, float]:
        """Return what is measured of a model."""
        outputs = self.outputs(run)
        return {} if outputs is None else proof.measure(outputs, self._answers, self._labels)


def _described(built: Built, reference: verify.Run, tested: _Tested, inputs: Tensors, outputs: Tensors) -> Artifact:
    return Artifact(
        **bundle.file_ref(built.path, built.content).model_dump(),
        format=built.format,
        test_accuracy=tested.metrics(built.run).get("accuracy"),
        latency_ms=proof.latency_ms(built.run, inputs),
        # a graph is its own reference: there is nothing to compare it with
        parity=None if built.run is reference else verify.parity(verify.alone(built.run, inputs), outputs),
    )


def _manifest(
    source: Source,
    contract: Contract,
    config: Config,
    version: int,
    outputs: tuple[TensorSpec, ...],
    artifacts: tuple[Artifact, ...],
    golden: GoldenRows,
    metrics: dict[str, float],
) -> Manifest:
    name, values = source.architecture()
    return Manifest(
        schema_version=1,
        name=contract.name,
        version=version,
        description=contract.description,
        license=contract.license,
        task=contract.found.kind.settings,
        architecture=Architecture(name=name, config=values),
        inputs=contract.found.kind.inputs,
        outputs=outputs,
        artifacts=artifacts,
        batching=Batching(max_rows=config.max_rows, max_elements=contract.found.max_elements),
        golden=golden_part(dump_golden(golden), len(golden), artifacts),
        metrics=metrics,
    )
