"""What is kept of a version whose folder is gone."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from app.bundle.loader import Bundle
from app.metrics import Metrics
from app.serving.catalog import Catalog
from app.serving.repository import Repository
from app.settings import Settings
from tests.support.bundles import dummy_bundle

WITHIN_S = 30.0


class OpenDoors:
    """Lets every model in."""

    def prepare(self, bundle: Bundle) -> Callable[[], None]:
        del bundle
        return lambda: None


def test_its_statistics_are_let_go_of_and_its_counters_stay(tmp_path: Path) -> None:
    models_dir, metrics = tmp_path / "models", Metrics()
    dummy_bundle(models_dir)
    dummy_bundle(models_dir, version=2)
    settings = Settings(models_dir=models_dir, backend="dummy", run_on="loop", state_dir=tmp_path / "state")

    async def scenario() -> None:
        catalog = Catalog(settings, metrics)
        repository = Repository(
            catalog, settings, doors=OpenDoors(), check_contract=lambda *_: None, metrics=metrics
        )  # fmt: skip
        await catalog.load(lambda *_: None)
        repository.commands.begun()
        metrics.requests["predict", "dummy", "1", "200"] += 1
        assert set(metrics.statistics) == {("dummy", "1"), ("dummy", "2")}
        shutil.rmtree(models_dir / "dummy" / "1")
        await repository.load("dummy", within_s=WITHIN_S)

    asyncio.run(scenario())
    assert set(metrics.statistics) == {("dummy", "2")}
    assert metrics.requests == {("predict", "dummy", "1", "200"): 1}
