"""A model in this process: loaded and proven as the service does it, once for each thread that computes.

A call of a runtime with several threads waits for the slowest of them in every operator; several calls beside each
other wait for nobody. So there are as many copies as threads, of one thread each, unless the weights are large. Which
of the two it is follows from the bundle and the number of threads alone, and is kept for whoever resumes: threads
inside a call may change the last bits of an answer, copies beside each other do not.
"""

import dataclasses
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from app import backends, cpus, tasks
from app.backends import Backend, Device
from app.bundle.golden import GoldenRows
from app.bundle.loader import Bundle, BundleRef, find_bundles, open_bundle
from app.bundle.manifest import Batching, Manifest, is_version
from app.bundle.signing import read_keys
from app.errors import BundleError
from app.predict.computing import compute
from app.predict.decoding import Decoded
from app.predict.errors import BadUse, Stopped
from app.serving.isolation import BatchResult, run_isolated
from app.serving.proof import is_well, promised, prove
from app.serving.tuned import Plan, plan_for, untuned
from app.settings import Settings
from app.tasks import Task
from app.tensors import Tensors, num_rows

# of all copies together; beyond it, threads go into the calls instead
MAX_WEIGHT_BYTES = 2**30
# while one chunk is on the GPU, the next is read
READERS_OF_A_GPU = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HowToRun:
    """All that the bits of an answer depend on, beside the bundle and the input.

    Attributes:
        backend: Key of the artifact.
        sha256: Its digest.
        device: Where it computes.
        threads: Inside one call.
        max_rows: Of a batch.
        max_elements: Rows times padded length of a batch.
    """

    backend: str
    sha256: str
    device: str
    threads: int
    max_rows: int
    max_elements: int | None


class Runner:
    """A task and a backend that one thread at a time uses."""

    def __init__(self, task: Task, run: Callable[[Tensors], Tensors], well: Callable[[], bool]) -> None:
        self.task = task
        self._run = run
        self._is_well = well

    def run(self, batch: Tensors) -> BatchResult:
        """Run a batch; one that fails is narrowed down to the rows that it fails on."""
        return run_isolated(self._run, batch, is_well=self._is_well)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A proven model.

    Attributes:
        manifest: With the batching that holds here.
        how: What its answers depend on.
        runners: One for each thread.
        sample: Outputs of one row.
        notes: What its user has to know.
    """

    manifest: Manifest
    how: HowToRun
    runners: tuple[Runner, ...]
    sample: Tensors
    notes: tuple[str, ...] = ()

    @property
    def task(self) -> Task:
        """The task, for whoever is alone with it."""
        return self.runners[0].task


def find(name: str, version: str | None, settings: Settings) -> BundleRef:
    """Return the bundle of a name; without a version, the highest that is there.

    Raises:
        BadUse: There is none; the message names those that there are.
    """
    try:
        refs = find_bundles(settings.models_dir)
    except BundleError as exc:
        raise BadUse(f"{exc}; set ZTO_MODELS_DIR") from exc
    of_name = [ref for ref in refs if ref.name == name]
    if not of_name:
        have = ", ".join(sorted({ref.name for ref in refs})) or "none"
        raise BadUse(f"no model {name!r} in {settings.models_dir}; there are: {have}")
    if version is None:
        return of_name[-1]
    found = next((ref for ref in of_name if is_version(version) and ref.version == int(version)), None)
    if found is None:
        raise BadUse(f"{name} has no version {version!r}; it has: {', '.join(str(ref.version) for ref in of_name)}")
    return found


def load(
    ref: BundleRef,
    settings: Settings,
    *,
    threads: int | None = None,
    batch_rows: int | None = None,
    max_instances: int = 1,
    as_before: HowToRun | None = None,
) -> LocalModel:
    """Load a bundle and prove it as the service does: digests, contract, golden rows.

    Args:
        ref: Which.
        settings: Of the environment.
        threads: To keep busy; None for those of the settings where they name them, else one for each core.
        batch_rows: Most rows of a batch; None for what was tuned, else what the manifest says.
        max_instances: Most instances that one reading by the task may hold.
        as_before: How it ran when it was interrupted.

    Raises:
        BundleError: It is not what its manifest says, or cannot be loaded.
        BadUse: It cannot run as it did before.
    """
    # no threads for products of matrices that nothing here computes: NumPy starts one per core
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    bundle = open_bundle(ref, read_keys(settings.signing_key))
    loader = _Loader(bundle, settings, max_instances)
    total = threads or (settings.threads if "threads" in settings.model_fields_set else cpus.num_cores())
    if as_before is not None:
        return loader.load(_plan_as_before(bundle, settings, as_before), as_before.device, total, as_before.threads)
    plan, device = plan_for(bundle, settings), settings.device
    notes: list[str] = []
    while True:
        asked = plan if batch_rows is None else _with_rows(plan, batch_rows)
        try:
            model = loader.load(asked, device, total, None)
        except BundleError as exc:
            if plan.tuning is not None:
                notes.append(f"it does not run as it was tuned: {exc}")
                plan = untuned(bundle, settings)
            elif device == "auto" and loader.device not in (None, "cpu"):
                notes.append(f"it runs on the CPU, since on {loader.device}: {exc}")
                device = "cpu"
            else:
                raise
        else:
            if plan.ignored_because:
                notes.append(f"it does not run as it was tuned: {plan.ignored_because}")
            return dataclasses.replace(model, notes=tuple(notes))


class _Loader:
    def __init__(self, bundle: Bundle, settings: Settings, max_instances: int) -> None:
        self._bundle = bundle
        self._settings = settings
        self._limits = tasks.Limits(max_instances=max_instances, max_image_pixels=settings.max_image_pixels)
        self.device: str | None = None

    def load(self, plan: Plan, device: Any, total: int, threads: int | None) -> LocalModel:
        """Load as many copies as there is work for, and prove each of them."""
        bundle, self.device = plan.applied_to(self._bundle), None
        manifest = bundle.manifest
        copies = 1
        if threads is None:
            copies = _num_copies(bundle, plan.backend, total)
            threads = max(1, total // copies)
        key, first = self._backend(bundle, plan.backend, threads, device)
        self.device = backends.device_of(first)
        plan.expect_device(self.device)
        copies = 1 if self.device == "cuda" else max(1, total // threads)
        golden = bundle.golden(key)
        task = tasks.create(bundle, self._limits)
        tasks.check_contract(task, golden)
        runners: list[Runner] = []
        for index in range(copies):
            backend = first if index == 0 else self._backend(bundle, key, threads, device)[1]
            run = promised(backend.run, manifest)
            prove(run, manifest, golden, key)
            runners.append(self._runner(bundle, run, golden, key, task if index == 0 else None))
        if self.device == "cuda":
            run = _one_at_a_time(promised(first.run, manifest))
            runners = [self._runner(bundle, run, golden, key, None) for _ in range(READERS_OF_A_GPU)]
        how = HowToRun(
            backend=key,
            sha256=bundle.artifact(key).sha256,
            device=self.device,
            threads=threads,
            max_rows=manifest.batching.max_rows,
            max_elements=manifest.batching.max_elements,
        )
        return LocalModel(
            manifest=manifest,
            how=how,
            runners=tuple(runners),
            sample={name: array[:1] for name, array in golden.outputs.items()},
        )

    def _backend(self, bundle: Bundle, key: str, threads: int, device: Device) -> tuple[str, Backend]:
        allowed = ("torchscript",) if self._settings.allow_torchscript else ()
        return backends.load(key, bundle, threads=threads, allowed=allowed, device=device)

    def _runner(
        self, bundle: Bundle, run: Callable[[Tensors], Tensors], golden: GoldenRows, key: str, task: Task | None
    ) -> Runner:
        # a task each: the fast decoder of one is for one thread
        task = tasks.create(bundle, self._limits) if task is None else task
        return Runner(task, run, lambda: is_well(run, bundle.manifest, golden, key))


def _num_copies(bundle: Bundle, wanted: str, total: int) -> int:
    artifacts = bundle.manifest.artifacts
    size_bytes = max(artifact.size_bytes for artifact in artifacts if wanted in ("auto", artifact.key)) if any(
        wanted in ("auto", artifact.key) for artifact in artifacts
    ) else 0  # fmt: skip
    return max(1, min(total, MAX_WEIGHT_BYTES // max(1, size_bytes)))


def _with_rows(plan: Plan, rows: int) -> Plan:
    return dataclasses.replace(plan, batching=plan.batching.model_copy(update={"max_rows": rows}))


def _plan_as_before(bundle: Bundle, settings: Settings, how: HowToRun) -> Plan:
    """Return the plan that was followed, so that what is computed now fits what is there.

    Raises:
        BadUse: The settings ask for another artifact or device by now.
    """
    wanted = settings.backend_of(bundle.manifest.name)
    if wanted not in ("auto", how.backend) or settings.device not in ("auto", how.device):
        raise BadUse(
            f"it was begun with {how.backend} on {how.device}, and the settings ask for {wanted} on {settings.device} "
            "now; set them as they were, or begin anew with --restart"
        )
    batching = Batching(max_rows=how.max_rows, max_elements=how.max_elements)
    return dataclasses.replace(untuned(bundle, settings), backend=how.backend, threads=how.threads, batching=batching)


def _one_at_a_time(run: Callable[[Tensors], Tensors]) -> Callable[[Tensors], Tensors]:
    lock = threading.Lock()

    def guarded(inputs: Tensors) -> Tensors:
        with lock:
            return run(inputs)

    return guarded


def parse_how(document: Mapping[str, Any]) -> HowToRun:
    """Return what :func:`dataclasses.asdict` made a document of."""
    return HowToRun(**document)


def answer(model: LocalModel, tensors: Tensors, options: Any) -> list[dict[str, Any]]:
    """Return one prediction for each row of a request.

    Raises:
        Stopped: The model fails on one of them.
    """
    how, runner = model.how, model.runners[0]
    decoded = Decoded(np.arange(num_rows(tensors)), [tensors], [])
    answers, failed = compute(decoded, runner.run, first_row=0, max_rows=how.max_rows, max_elements=how.max_elements)
    if failed:
        raise Stopped(f"row {failed[0].row}: {failed[0].message}")
    return answers.predictions(lambda outputs: runner.task.encode(outputs, options))
