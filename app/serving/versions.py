"""Models, their versions and the state of each (:mod:`app.serving.lifecycle`); and how they are found in a folder.

What is loaded again begins as a new :class:`Version`.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from app.backends import Backend
from app.bundle.golden import GoldenRows
from app.bundle.loader import Bundle, BundleRef, find_bundles, open_bundle
from app.bundle.manifest import FileRef, Manifest
from app.bundle.signing import PublicKeys
from app.counts import Histogram
from app.errors import BundleError, SettingsError
from app.serving.batcher import Batcher
from app.serving.calls import Calls
from app.serving.costs import CostModel
from app.serving.lifecycle import State, follow
from app.serving.policy import LATEST, Dealer, Policy
from app.serving.tuned import Plan
from app.settings import Settings

__all__ = ["Model", "State", "Version", "read_manifests", "read_version"]

logger = logging.getLogger("app.catalog")


@dataclass(slots=True, kw_only=True, eq=False)
class Version:
    """One version of one model, whatever its state.

    Attributes:
        ref: Where its bundle lies.
        bundle: None where the manifest is not valid.
        manifest_read: As it lay on the disk; that of ``bundle`` may be batched as it was tuned.
        stamp: Of each file that the manifest names its size and the time of its last change, when that was read.
        state: Where it stands; changed by :meth:`become` alone.
        reason: Why it failed, or is sick; of one that serves, why it goes on in place of what lies in its folder now;
            empty otherwise.
        backend_name: What serves it, once loaded.
        device: Where it computes, once loaded.
        plan: How it is served: with what was tuned for this machine, where there is that.
        runs_on: Where its batches run, once ready.
        batch_s: Seconds that a full batch took in the warm-up.
        costs: What a batch is expected to take, corrected by every one that runs.
        batcher: Its queue; there where ``state`` is ready.
        queue_s: Where the seconds that requests wait are counted, once it has been ready.
        calls: Of its backend, from the first that proves it.
        golden: What it was proven with, once ready.
        under_way: Its loading, while that is under way.
        is_held: Whether it must not yet become the latest: others of its swap are still on their way.
        is_lent: Whether a shadow computes with its backend now, beside its queue.
    """

    ref: BundleRef
    bundle: Bundle | None = None
    manifest_read: Manifest | None = None
    stamp: tuple[tuple[int, int], ...] = ()
    state: State = State.LOADING
    reason: str = ""
    backend_name: str | None = None
    device: Literal["cpu", "cuda"] | None = None
    plan: Plan | None = None
    runs_on: Literal["loop", "thread"] | None = None
    batch_s: float | None = None
    costs: CostModel | None = None
    batcher: Batcher | None = None
    backend: Backend | None = None
    executor: ThreadPoolExecutor | None = None
    queue_s: Histogram | None = None
    calls: Calls | None = None
    golden: GoldenRows | None = None
    under_way: "asyncio.Future[Any] | None" = None
    is_held: bool = False
    is_lent: bool = False

    def become(self, state: State, reason: str = "") -> None:
        """Stand elsewhere from now on.

        Raises:
            ImpossibleTransition: It cannot from where it stands.
        """
        self.state, self.reason = follow(self.state, state), reason

    def fail(self, reason: str) -> None:
        """Take it out of rotation for good, and give back what its runtime holds.

        Nothing runs on it: it has never served.
        """
        self.become(State.FAILED, reason)
        logger.error("%s failed: %s", self.label, reason)
        self._stop_executor()
        self.discard_backend()

    def sicken(self, reason: str) -> None:
        """Take it out of rotation until it was loaded anew. Where a batch still runs, the runtime is left to it.

        What is unloaded stays unloaded, though a batch of its comes back sick.
        """
        if self.state in (State.UNLOADING, State.UNLOADED):
            logger.error("%s, which is %s, is sick: %s", self.label, self.state, reason)
        else:
            self.become(State.SICK, reason)
            logger.error("%s is out of rotation: %s", self.label, reason)
        self._stop_executor()
        if self.calls is not None and self.calls.is_under_way:
            self.backend = None
        self.discard_backend()

    def retire(self) -> None:
        """Take it out of rotation; what waits in its queue is still answered."""
        self.become(State.UNLOADING)
        if self.batcher is not None:
            self.batcher.drain(f"{self.label} is unloaded")

    def release(self) -> None:
        """Give back all that it holds but its manifest. Where a call still runs, the runtime is left to it.

        Whoever still waits is answered with :class:`ModelNotReady`.
        """
        batcher, self.batcher = self.batcher, None
        is_called = self.calls is not None and self.calls.is_under_way
        is_running = is_called or (batcher is not None and not batcher.is_idle)
        if batcher is not None:
            batcher.abandon(f"{self.label} is unloaded")
        self._stop_executor()
        if is_running:
            logger.warning("%s: a call still runs, and keeps the memory of its runtime", self.label)
            self.backend = None
        self.discard_backend()
        self.become(State.UNLOADED)
        self.calls = self.golden = None
        self.backend_name = self.device = self.plan = self.runs_on = self.batch_s = self.costs = None

    def _stop_executor(self) -> None:
        executor, self.executor = self.executor, None
        if executor is not None:
            executor.shutdown(wait=False)

    def discard_backend(self) -> None:
        """Give back what its runtime holds; where a shadow still computes with it, that is left to it."""
        backend, self.backend = self.backend, None
        if backend is not None and not self.is_lent:
            try:
                backend.close()
            except Exception:
                logger.exception("%s: its runtime does not close", self.label)

    @property
    def label(self) -> str:
        """Name and version, as logs and errors write them."""
        return f"{self.ref.name}/{self.ref.version}"


@dataclass(slots=True, kw_only=True)
class Model:
    """All versions of one name, rising, and the policy by which they answer.

    Attributes:
        name: Of the model.
        versions: Rising; at least one.
        contract: A manifest whose task, inputs and outputs the doors were set up for; None where they were not.
        is_unloaded: Whether an operator has unloaded it, and it has not been loaded again.
        policy: In force here; changed by :meth:`adopt`.
        draw: Returns numbers from 0 to 1, uniformly drawn, by which requests are dealt out.
    """

    name: str
    versions: list[Version] = field(default_factory=list)
    contract: Manifest | None = None
    is_unloaded: bool = False
    policy: Policy = field(default_factory=Policy)
    draw: Callable[[], float] = random.random
    _dealer: Dealer | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.adopt(self.policy)

    def adopt(self, policy: Policy) -> None:
        """Answer by a policy from now on."""
        self.policy = policy
        self._dealer = Dealer(policy) if policy.weights else None

    def put(self, version: Version) -> None:
        """Put a version in its place, instead of another one of its number."""
        others = [other for other in self.versions if other.ref.version != version.ref.version]
        self.versions[:] = sorted([*others, version], key=lambda each: each.ref.version)

    def pick(self) -> Version:
        """Return who answers a request that names no version: by weight, where there are weights, or the default."""
        dealer = self._dealer
        if dealer is not None and (number := dealer.deal(self.draw())) is not None:
            version = self.numbered(number)
            if version is not None and version.state is State.READY:
                return version
        return self.default

    def wants(self, number: int, policy: Policy) -> bool:
        """Whether a version is to be loaded by a policy, as its versions stand now."""
        if policy.keep == "all" or number in policy.named:
            return True
        shadow = None if policy.shadow is None else policy.shadow.version
        return policy.pinned is None and not any(
            version.state is State.READY and version.ref.version > number and version.ref.version != shadow
            for version in self.versions
        )

    def numbered(self, number: int) -> Version | None:
        """Return the version of a number; None where there is none."""
        for version in self.versions:
            if version.ref.version == number:
                return version
        return None

    def named(self, name: str) -> Version | None:
        """Return the version of a number, as it stands in a request, or of a label; None where there is none."""
        labeled = self.policy.labels.get(name)
        if labeled is not None:
            return self.numbered(labeled)
        # by its one spelling: `01` is no version 1
        return next((version for version in self.versions if str(version.ref.version) == name), None)

    @property
    def names(self) -> tuple[str, ...]:
        """All that a request may call a version of it."""
        return (*(str(version.ref.version) for version in self.versions), *self.policy.labels)

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of the highest version that has a valid one; all versions share task, inputs and labels."""
        return next((v.bundle.manifest for v in reversed(self.versions) if v.bundle is not None), None)

    @property
    def default(self) -> Version:
        """The version that is pinned; else the highest that is ready and no shadow; where none is, the highest."""
        policy = self.policy
        pinned = policy.default
        shadow = None if policy.shadow is None else policy.shadow.version
        if pinned == LATEST:
            for version in reversed(self.versions):  # no generator: every request passes here
                if version.state is State.READY and not version.is_held and version.ref.version != shadow:
                    return version
        else:
            for version in self.versions:
                if version.ref.version == pinned:
                    return version
        return self.versions[-1]


def read_manifests(settings: Settings, keys: PublicKeys | None) -> dict[str, Model]:
    """List the bundles of the models folder and read their manifests; one that is not valid is there, failed.

    Raises:
        SettingsError: The folder is missing or holds no bundle, or a required or default model is not among them.
    """
    try:
        refs = find_bundles(settings.models_dir)
    except BundleError as exc:
        raise SettingsError(f"{exc}; set ZTO_MODELS_DIR (or MODELS_DIR) to the folder of the bundles") from exc
    if not refs:
        raise SettingsError(
            f"{settings.models_dir.resolve()} holds no bundle: expected <name>/<version>/manifest.json below it; "
            "set ZTO_MODELS_DIR (or MODELS_DIR) to the folder of the bundles"
        )
    models: dict[str, Model] = {}
    for ref in refs:
        model = models.setdefault(ref.name, Model(name=ref.name, policy=policy_at_start(settings, ref.name)))
        model.versions.append(read_version(ref, model, keys))
    names = [*settings.required_models, *([settings.default_model] if settings.default_model else [])]
    if unknown := sorted(set(names) - set(models)):
        raise SettingsError(f"no bundle of the required or default models {unknown}; there are: {', '.join(models)}")
    if unknown := sorted(set(settings.backends) - set(models)):
        raise SettingsError(f"ZTO_BACKEND names models that are not there: {unknown}; there are: {', '.join(models)}")
    _expect_versions(settings, models)
    return models


def policy_at_start(settings: Settings, name: str) -> Policy:
    """Return what the settings say of the versions of a model."""
    return Policy(default=settings.default_version_of(name), keep=settings.keep_versions)


def _expect_versions(settings: Settings, models: dict[str, Model]) -> None:
    """Refuse a setting that pins what is not there; raises :class:`SettingsError`."""
    for name, number in settings.default_versions.items():
        model = models.get(name)
        if model is None:
            raise SettingsError(
                f"ZTO_VERSION_POLICY names a model that is not there: {name}; there are: {', '.join(models)}"
            )
        if isinstance(number, int) and model.numbered(number) is None:
            known = ", ".join(str(version.ref.version) for version in model.versions)
            raise SettingsError(f"ZTO_VERSION_POLICY pins {name} to version {number}; there are: {known}")


def read_version(ref: BundleRef, model: Model, keys: PublicKeys | None) -> Version:
    """Read the manifest of one more version of a model; where it is not valid, or not of this model, it has failed.

    Where keys are given, so has one that nobody with one of them has signed.
    """
    version = Version(ref=ref)
    try:
        version.bundle = open_bundle(ref, keys)
        version.manifest_read = version.bundle.manifest
        version.stamp = _stamp(version.bundle)
        _expect_same_contract(version.bundle.manifest, model)
    except BundleError as exc:
        version.bundle = None
        version.fail(str(exc))
    return version


def files_of(manifest: Manifest) -> list[FileRef]:
    """Return all files that a manifest names."""
    own = [artifact.golden for artifact in manifest.artifacts if artifact.golden is not None]
    settings = [value for _, value in manifest.task if isinstance(value, FileRef)]
    return [*manifest.artifacts, manifest.golden, *own, *settings]


def _stamp(bundle: Bundle) -> tuple[tuple[int, int], ...]:
    """Return what tells that a file was changed in place, without reading it; one that is missing has no time."""
    found = []
    for file in files_of(bundle.manifest):
        try:
            status = (bundle.folder / file.path).stat()
        except OSError:
            found.append((0, 0))
        else:
            found.append((status.st_size, status.st_mtime_ns))
    return tuple(found)


def _expect_same_contract(manifest: Manifest, model: Model) -> None:
    """Hold a version against the others of its name; one that differs in its contract belongs under another name."""
    others = (other.bundle.manifest for other in model.versions if other.bundle is not None)
    first = model.contract or next(others, None)
    if first is None:
        return
    for part in ("task", "inputs", "outputs"):
        if getattr(manifest, part) != getattr(first, part):
            differs = "is not that" if part == "task" else "are not those"
            raise BundleError(
                f"its {part} {differs} of version {first.version}: all versions of a name share task, inputs and "
                "outputs; package it under another name"
            )
