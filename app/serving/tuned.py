"""How a version is served: as its manifest and the settings say, and where it was tuned for this machine, as tuned.

What the operator sets by name has the last word. A tuning that is damaged or was measured of something else is told,
and not heeded; it never takes a good bundle down.
"""

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any, Literal

from app import backends, cpus
from app.bundle.loader import Bundle
from app.bundle.manifest import Batching
from app.bundle.tuning import Tuning, read_tuning, runtime_is_installed
from app.errors import BundleError
from app.settings import Settings

logger = logging.getLogger("app.catalog")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a version is served.

    Attributes:
        backend: Key of the artifact, or ``auto``.
        threads: Of the runtime inside one call.
        batching: What one call may hold.
        run_on: Where batches run.
        tuning: What it follows; None where it follows manifest and settings alone.
        ignored_because: Why a tuning that is there is not heeded.
        overrides: What differs from manifest and settings.
    """

    backend: str
    threads: int
    batching: Batching
    run_on: Literal["auto", "loop", "thread"]
    tuning: Tuning | None = None
    ignored_because: str | None = None
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)

    def applied_to(self, bundle: Bundle) -> Bundle:
        """Return the bundle with this batching in its manifest, so that what is proven is what will run."""
        manifest = bundle.manifest
        if manifest.batching == self.batching:
            return bundle
        return dataclasses.replace(bundle, manifest=manifest.model_copy(update={"batching": self.batching}))

    def expect_device(self, device: str) -> None:
        """Raise :class:`BundleError` where it was tuned on another device than the one that was found."""
        if self.tuning is not None and self.tuning.environment.device != device:
            raise BundleError(f"it was tuned on {self.tuning.environment.device}, and computes on {device}")


def untuned(bundle: Bundle, settings: Settings, *, because: str | None = None) -> Plan:
    """Return the plan of manifest and settings alone."""
    return Plan(
        backend=settings.backend_of(bundle.manifest.name),
        threads=settings.threads,
        batching=bundle.manifest.batching,
        run_on=settings.run_on,
        ignored_because=because,
    )


def plan_for(bundle: Bundle, settings: Settings) -> Plan:
    """Return how a bundle is to be served here."""
    plan = untuned(bundle, settings)
    if not settings.tuning:
        return plan
    try:
        tuning = read_tuning(bundle, settings.state_dir)
    except BundleError as exc:
        logger.warning("%s/%d: %s", bundle.manifest.name, bundle.manifest.version, exc)
        return dataclasses.replace(plan, ignored_because=str(exc))
    if tuning is None:
        return plan
    choice = tuning.choice
    if plan.backend not in ("auto", choice.backend):
        return dataclasses.replace(
            plan, ignored_because=f"it was tuned for {choice.backend}, and ZTO_BACKEND asks for {plan.backend}"
        )
    tuned = dataclasses.replace(
        plan,
        backend=choice.backend,
        threads=plan.threads if "threads" in settings.model_fields_set else _within_the_cores(choice.threads, settings),
        batching=choice.batching,
        run_on=choice.run_on if plan.run_on == "auto" else plan.run_on,
        tuning=tuning,
    )
    return dataclasses.replace(tuned, overrides=_differences(plan, tuned, _own_key(bundle, settings)))


def _within_the_cores(threads: int, settings: Settings) -> int:
    """Return the tuned threads, cut down to the share of the cores that each of the workers has."""
    return cpus.threads_within(threads, workers=settings.workers, cores=cpus.num_cores())


def _own_key(bundle: Bundle, settings: Settings) -> str | None:
    """Return the key of the artifact that would be served without a tuning: as :func:`app.backends.load` chooses it."""
    wanted = settings.backend_of(bundle.manifest.name)
    if wanted != "auto":
        return wanted
    for artifact in bundle.manifest.artifacts:
        may_run = artifact.format != "torchscript" or settings.allow_torchscript
        if artifact.format in backends.names() and may_run and runtime_is_installed(artifact.key):
            return artifact.key
    return None


def _differences(plan: Plan, tuned: Plan, own_key: str | None) -> dict[str, Any]:
    names = [field for field in ("threads", "run_on") if getattr(plan, field) != getattr(tuned, field)]
    found: dict[str, Any] = {name: getattr(tuned, name) for name in names}
    if tuned.backend != own_key:
        found["backend"] = tuned.backend
    before, after = plan.batching.model_dump(), tuned.batching.model_dump()
    return found | {name: value for name, value in after.items() if before[name] != value}
