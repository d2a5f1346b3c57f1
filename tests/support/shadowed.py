"""A serving version and its shadow in one process, and a stage for both."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import backends
from app.backends.dummy import Behavior, DummyBackend
from app.bundle.loader import Bundle
from app.comparison import OUTCOMES, Comparison
from app.metrics import Metrics
from app.serving.catalog import Catalog
from app.serving.jobs import Answer
from app.serving.policy import Shadow as Wish
from app.serving.shadow import Shadow
from app.serving.versions import State, Version
from app.settings import Settings
from app.tensors import Tensors
from tests.support.bundles import INPUT_NAME, dummy_bundle
from tests.support.jobs import FOREVER

ODD = 7.0
KEY = ("dummy", "1", "2", "digest")


def pictures(*firsts: float) -> Tensors:
    """Return one picture for each number, which stands in its first corner."""
    images_BHW = np.ones((len(firsts), 2, 3), np.float32)
    images_BHW[:, 0, 0] = firsts
    return {INPUT_NAME: images_BHW}


class Scene:
    """Two versions of one model, and a shadow between them."""

    def __init__(self, catalog: Catalog, metrics: Metrics, name: str) -> None:
        self.catalog, self.metrics = catalog, metrics
        self.serving, self.version = catalog.models[name].versions
        self.is_calm = True
        self.shadow: Shadow | None = None

    def begin(self, draw: Callable[[], float] = lambda: 0.0, **wish: Any) -> Shadow:
        self.shadow = Shadow(
            self.serving,
            self.version,
            Wish(**{"version": 2, "share": 1.0, "cpu_share": 1.0} | wish),
            self.metrics,
            KEY,
            is_calm=lambda: self.is_calm,
            draw=draw,
        )
        return self.shadow

    @property
    def found(self) -> Comparison:
        return self.metrics.comparisons[KEY]

    @property
    def outcomes(self) -> dict[str, int]:
        return {outcome: rows for outcome in OUTCOMES if (rows := getattr(self.found, outcome))}

    async def ask(self, *requests: Tensors, version: Version | None = None) -> list[Answer]:
        """Ask the serving version, one batch for each request."""
        batcher = (version or self.serving).batcher
        assert batcher is not None
        return [await batcher.submit(request, deadline=FOREVER) for request in requests]

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not is_so():  # noqa: ASYNC110  what is waited for tells nobody
                await asyncio.sleep(0.001)


def play(models_dir: Path, act: Callable[[Scene], Coroutine[Any, Any, None]], name: str = "dummy") -> None:
    """Load two versions, and act."""

    async def scenario() -> None:
        metrics = Metrics()
        catalog = Catalog(Settings(models_dir=models_dir, backend="dummy", run_on="loop"), metrics)
        await catalog.load(lambda manifest, golden: None)
        assert [version.state for version in catalog.versions()] == [State.READY, State.READY]
        scene = Scene(catalog, metrics, name)
        try:
            await act(scene)
        finally:
            if scene.shadow is not None:
                scene.shadow.close()
            catalog.close()

    asyncio.run(scenario())


def two_versions(models_dir: Path, **behavior: Any) -> None:
    dummy_bundle(models_dir, version=1)
    dummy_bundle(models_dir, version=2, behavior=behavior)


@contextmanager
def second_version_as(kind: type[DummyBackend]) -> Iterator[None]:
    """Have the backend of version 2 be another one."""
    load = backends.load

    def load_other(key: str, bundle: Bundle, **rest: Any) -> tuple[str, backends.Backend]:
        if bundle.manifest.version != 2:
            return load(key, bundle, **rest)
        return "dummy", kind(Behavior(), bundle.manifest.outputs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(backends, "load", load_other)
        yield
