"""Tunings as ``python -m app tune`` writes them, measured on this machine."""

from typing import Any

from app import cpus, machine
from app.bundle.loader import Bundle
from app.bundle.manifest import Batching
from app.bundle.tuning import Choice, Environment, Tuning, runtime_of


def tuning_of(bundle: Bundle, **choice: Any) -> Tuning:
    """Return a tuning that holds here: the manifest's own settings but for what is given."""
    manifest = bundle.manifest
    key = choice.pop("backend", manifest.artifacts[0].key)
    batching = manifest.batching.model_dump() | {
        name: choice.pop(name) for name in list(choice) if name in Batching.model_fields
    }
    return Tuning(
        name=manifest.name,
        version=manifest.version,
        sha256=bundle.artifact(key).sha256,
        choice=Choice(backend=key, batching=Batching(**batching), **{"threads": 1, **choice}),
        environment=Environment(
            processor=machine.processor(), cores=cpus.num_cores_of_machine(), runtime=runtime_of(key), device="cpu"
        ),
        measured_at="2026-01-02T03:04:05+00:00",
        clients=64,
        max_batch_ms=50.0,
        gain=1.5,
        candidates=(),
    )
