"""The catalog: what is served is what has just been proven.

Loading runs in the background, one version after the other, so that the port answers from the first moment; a version
that fails stays failed with its reason, and the others go on.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from app import backends
from app.backends import Device
from app.bundle.golden import GoldenRows
from app.bundle.loader import Bundle
from app.bundle.manifest import Manifest
from app.bundle.signing import read_keys
from app.errors import BundleError, BundleNotProven, BundleNotSigned, ModelNotReady, UnknownModel, UnknownVersion
from app.metrics import Metrics
from app.serving.batcher import Batcher
from app.serving.calls import Calls
from app.serving.costs import learn
from app.serving.isolation import BatchResult
from app.serving.proof import is_well, promised, prove
from app.serving.queue_memory import QueueMemory
from app.serving.shadows import Shadows
from app.serving.threads import on_daemon_thread
from app.serving.tuned import Plan, plan_for, untuned
from app.serving.versions import Model, State, Version, read_manifests
from app.settings import Settings
from app.tensors import take, trim

if TYPE_CHECKING:
    from app.serving.traced import OnTraced

logger = logging.getLogger("app.catalog")

# a batch of at most this long runs on the event loop itself under ZTO_RUN_ON=auto: a hop to a thread would cost about
# 15% of the throughput of a small model, and longer ones are what others wait for longest
LOOP_BATCH_S = 0.0025

ContractCheck: TypeAlias = Callable[[Manifest, GoldenRows], None]


class Catalog:
    """The models of one folder.

    Args:
        settings: Of the service.
        metrics: Told of every batch.
        trace_batches: Returns what the batches of a model and version are told to beside; None where nobody traces.
        clock: Monotonic seconds.

    Attributes:
        models: By name.
        shadows: Follow the policies of the models by themselves.
        on_ready: Called whenever a version has become ready, before anybody can ask it.
        keys: One of which must have signed every bundle; None where no signature is asked for.

    Raises:
        SettingsError: The folder is missing or holds no bundle, or a required model is not among them; or the file of
            the keys holds none.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        trace_batches: Callable[[str, str], "OnTraced | None"] = lambda model, version: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trace_batches = trace_batches
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self.keys = read_keys(settings.signing_key)
        self.models = read_manifests(settings, self.keys)
        self.shadows = Shadows(self.models, metrics, clock=clock)
        self.on_ready: Callable[[], None] = lambda: None
        self._required = settings.required_models or tuple(self.models)
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._queue_memory = QueueMemory(settings.max_queue_bytes)
        self._coming: Version | None = None
        self._loading = asyncio.Lock()  # what the warm-up measures beside another one would not be the model's own
        one_version = ("model", "version")
        metrics.add_gauge("zto_queue_rows", "Rows that wait.", one_version, self._queue_rows)
        metrics.add_gauge(
            "zto_queue_bytes", "What requests hold that wait behind the next batch, over all models.", (),
            lambda: [((), self._queue_memory.held_bytes)],
        )  # fmt: skip
        metrics.add_gauge(
            "zto_predicted_batch_seconds", "Seconds that a batch is expected to take: of one row, and a full one.",
            (*one_version, "batch"), self._predicted, combine=max,
        )  # fmt: skip
        metrics.add_gauge(
            "zto_model_state", "1 for the state that the version is in, 0 for the others.", (*one_version, "state"),
            self._states, combine=max,
        )  # fmt: skip
        metrics.add_gauge("zto_model_ready", "1 where the version serves.", one_version, self._ready, combine=min)

    @property
    def required(self) -> tuple[str, ...]:
        """The models that readiness waits for, but while an operator has unloaded them."""
        return self._required

    @property
    def is_ready(self) -> bool:
        """Whether every required model has a version that serves, or is unloaded on purpose."""
        return all(map(self.is_model_ready, self._required))

    def is_model_ready(self, name: str) -> bool:
        """Whether a model has a version that serves, or is unloaded on purpose."""
        model = self.models[name]
        return model.is_unloaded or model.default.state is State.READY

    def versions(self) -> Iterable[Version]:
        """Yield every version of every model."""
        for model in self.models.values():
            yield from model.versions

    def resolve(self, name: str, version: str | None = None) -> Version:
        """Return a version by its number or label; without one, the default of the model's policy.

        Raises:
            UnknownModel: No model of that name.
            UnknownVersion: The model has no such version.
            ModelNotReady: It is there, and does not serve; the message says why.
        """
        model = self._model(name)
        return _ready(model.default if version is None else _named(model, version))

    def pick(self, name: str, version: str | None = None) -> Version:
        """Return the version that answers a request: as :meth:`resolve` does, but dealt out where there are weights.

        Raises:
            UnknownModel, UnknownVersion, ModelNotReady: As :meth:`resolve` raises them.
        """
        model = self._model(name)
        return _ready(model.pick() if version is None else _named(model, version))

    def again(self, version: Version, asked: str | None) -> Version:
        """Return a version that was picked, or whoever has taken its place since, before anything was queued.

        Args:
            version: From :meth:`pick`.
            asked: What the request had asked for then.

        Raises:
            UnknownVersion, ModelNotReady: As :meth:`resolve` raises them.
        """
        return version if version.state is State.READY else self.pick(version.ref.name, asked)

    def _model(self, name: str) -> Model:
        model = self.models.get(name)
        if model is None:
            raise UnknownModel(name, tuple(self.models))
        return model

    @property
    def coming(self) -> Version | None:
        """The version that is being brought up; it may not be among those of its model yet."""
        return self._coming

    def forget(self, name: str) -> None:
        """Serve no model of a name: it has come to the folder since the start, and nobody has had it loaded."""
        del self.models[name]
        self._required = tuple(required for required in self._required if required != name)

    def lock(self, name: str) -> asyncio.Lock:
        """Return what is held by whoever brings versions of a model up or down."""
        return self._locks[name]

    async def load(self, check_contract: ContractCheck) -> None:
        """Load, prove and warm up every version that a policy wants, one after the other; none that fails stops others.

        Args:
            check_contract: Raises :class:`BundleError` where the golden requests do not become the golden tensors, or
                the golden outputs not the golden responses.
        """
        self.shadows.start()
        for model in tuple(self.models.values()):
            for number in model.policy.in_order(version.ref.version for version in model.versions):
                async with self.lock(model.name):
                    version = model.numbered(number)  # another may have taken its place meanwhile
                    if version is None or version.state is not State.LOADING:  # failed, or unloaded
                        continue
                    if model.wants(number, model.policy):
                        await self.bring_up(version, check_contract)
                    else:
                        version.release()

    async def bring_up(self, version: Version, check_contract: ContractCheck) -> None:
        """Load, prove and warm up one version whose manifest is valid; it is ready afterwards, or failed. Never raises.

        The caller holds the lock of its model.
        """
        async with self._loading:
            started_at = self._clock()
            bundle = version.bundle
            assert bundle is not None
            self._coming = version
            try:
                version.under_way = on_daemon_thread(partial(self._load_and_prove, version, bundle, check_contract))
                golden = await version.under_way
                self._open_queue(version, golden)
            except Exception as exc:  # whatever it is, it is this version's alone
                if not isinstance(exc, BundleError):
                    logger.exception("%s: unexpected failure while loading", version.label)
                version.fail(str(exc) or type(exc).__name__)
            else:
                self.on_ready()
                logger.info(
                    "%s ready in %.0f ms: %s on the %s, batches on the %s%s",
                    version.label, (self._clock() - started_at) * 1e3, version.backend_name, version.device,
                    version.runs_on, ", as tuned" if version.plan and version.plan.tuning else "",
                )  # fmt: skip
            finally:
                self._coming = None

    def close(self) -> None:
        """Answer whoever still waits, and start nothing more. What hangs in a runtime is left to the process's end."""
        self.shadows.close()
        for version in self.versions():
            if version.batcher is not None:
                version.batcher.abandon("the service is shutting down")
            if version.executor is not None:
                version.executor.shutdown(wait=False, cancel_futures=True)

    def _load_and_prove(self, version: Version, bundle: Bundle, check_contract: ContractCheck) -> GoldenRows:
        plan, device = plan_for(bundle, self._settings), self._settings.device
        while True:
            try:
                return self._load_as_planned(version, bundle, plan, device, check_contract)
            except BundleNotSigned:
                raise  # whatever the plan
            except BundleError as exc:
                if plan.tuning is not None:
                    logger.warning("%s: not served as it was tuned: %s", version.label, exc)
                    plan = untuned(
                        bundle, self._settings, because=f"the model does not load as it was tuned: {exc}"
                    )  # fmt: skip
                elif device == "auto" and version.device not in (None, "cpu"):
                    # a GPU adds up in another order, which a bundle of narrow tolerances may not allow
                    logger.warning("%s: not served on %s, but on the CPU: %s", version.label, version.device, exc)
                    device = "cpu"
                    plan = plan_for(bundle, self._settings)  # which may have been tuned there, as `tune` falls back too
                else:
                    raise
                version.discard_backend()

    def _load_as_planned(
        self,
        version: Version,
        bundle: Bundle,
        plan: Plan,
        device: Device,
        check_contract: ContractCheck,
    ) -> GoldenRows:
        settings = self._settings
        bundle = plan.applied_to(bundle)
        version.plan, version.bundle, version.device = plan, bundle, None
        version.backend_name, backend = backends.load(
            plan.backend,
            bundle,
            threads=plan.threads,
            allowed=("torchscript",) if settings.allow_torchscript else (),
            device=device,
        )
        version.device = backends.device_of(backend)
        version.backend = backend
        plan.expect_device(version.device)
        version.become(State.PROVING)
        golden = bundle.golden(version.backend_name)
        check_contract(bundle.manifest, golden)
        version.calls = Calls(backend)
        run = promised(version.calls, bundle.manifest)
        prove(run, bundle.manifest, golden, version.backend_name)
        try:
            version.costs, version.batch_s = learn(
                run, golden.inputs, bundle.manifest, version.backend_name, clock=self._clock
            )  # fmt: skip
            version.calls.settle(trim(take(golden.inputs, 0, 1)))
        except Exception as exc:  # as a device whose memory does not hold a full batch; another plan may do
            raise BundleNotProven(f"warm-up: {str(exc) or type(exc).__name__}") from exc
        return golden

    def _open_queue(self, version: Version, golden: GoldenRows) -> None:
        backend, batch_s = version.backend, version.batch_s
        assert version.bundle is not None
        assert backend is not None
        assert batch_s is not None
        manifest = version.bundle.manifest
        run_on = self._settings.run_on if version.plan is None else version.plan.run_on
        if run_on == "auto":
            # while a GPU computes, the event loop can read the next requests
            run_on = "loop" if batch_s <= LOOP_BATCH_S and version.device == "cpu" else "thread"
        if run_on == "thread":
            version.executor = ThreadPoolExecutor(1, thread_name_prefix=f"run-{version.label}")
        version.runs_on = run_on
        version.queue_s = self._metrics.stage_s[manifest.name, "queue"]
        assert version.calls is not None
        run, backend_name = promised(version.calls, manifest), version.backend_name or ""
        batch_rows = self._metrics.batch_rows[manifest.name]
        compute_s = self._metrics.stage_s[manifest.name, "compute"]
        one_version = (manifest.name, str(manifest.version))

        def count(rows: int, result: BatchResult) -> None:
            batch_rows.observe(rows)
            compute_s.observe(result.compute_s)
            if result.rejected_rows:
                self._metrics.rejected_rows[manifest.name] += len(result.rejected_rows)
            if result.elements:
                self._metrics.batch_elements[one_version] += result.elements
                self._metrics.padding_elements[one_version] += result.padding_elements

        version.batcher = Batcher(
            run,
            is_well=lambda: is_well(run, manifest, golden, backend_name),
            max_rows=manifest.batching.max_rows,
            max_queue_rows=self._settings.max_queue_rows,
            max_elements=manifest.batching.max_elements,
            inputs=manifest.inputs,
            length_buckets=self._settings.length_buckets,
            costs=version.costs,
            max_wait_s=manifest.batching.max_wait_ms / 1e3,
            executor=version.executor,
            on_batch=count,
            on_traced=self._trace_batches(*one_version),
            on_sick=version.sicken,
            memory=self._queue_memory,
            statistics=self._metrics.statistics[one_version],
            clock=self._clock,
        )
        version.golden = golden
        version.become(State.READY)

    def _queue_rows(self) -> Iterable[tuple[tuple[str, str], float]]:
        for version in self.versions():
            if version.batcher is not None:
                yield (version.ref.name, str(version.ref.version)), version.batcher.waiting_rows

    def _predicted(self) -> Iterable[tuple[tuple[str, str, str], float]]:
        for version in self.versions():
            if version.costs is not None:
                one_version = version.ref.name, str(version.ref.version)
                yield (*one_version, "one_row"), version.costs.row_s
                yield (*one_version, "full"), version.costs.full_s

    def _states(self) -> Iterable[tuple[tuple[str, str, str], float]]:
        for version in self.versions():
            for state in State:
                yield (version.ref.name, str(version.ref.version), state.value), version.state is state

    def _ready(self) -> Iterable[tuple[tuple[str, str], float]]:
        for version in self.versions():
            yield (version.ref.name, str(version.ref.version)), version.state is State.READY


def _named(model: Model, name: str) -> Version:
    version = model.named(name)
    if version is None:
        raise UnknownVersion(model.name, name, model.names)
    return version


def _ready(version: Version) -> Version:
    if version.state is not State.READY:
        reason = f": {version.reason}" if version.reason else ""
        raise ModelNotReady(f"{version.label} is {version.state}{reason}")
    return version
