"""A model of series in the catalog: proven, batched within its bounds, counted."""

import asyncio
from pathlib import Path

from app.backends.dummy import DummyBackend
from app.metrics import Metrics
from app.serving.catalog import Catalog
from app.serving.versions import State
from app.settings import Settings
from tests.support.jobs import FOREVER
from tests.support.ragged import series, series_bundle, series_outputs

LENGTHS = [3, 9, 1, 20, 2, 7]


def test_series_of_different_lengths_are_served_and_their_padding_is_counted(tmp_path: Path) -> None:
    series_bundle(tmp_path, [4, 1, 6], max_rows=4, max_elements=30)

    async def scenario() -> None:
        metrics = Metrics()
        catalog = Catalog(Settings(models_dir=tmp_path, backend="dummy", run_on="loop"), metrics)
        await catalog.load(lambda manifest, golden: None)
        version = catalog.resolve("series")
        assert version.state is State.READY
        assert version.batcher is not None
        assert isinstance(version.backend, DummyBackend)
        version.backend.rows_per_call.clear()
        requests = [series([length], start=100 * length) for length in LENGTHS]
        answers = await asyncio.gather(*(version.batcher.submit(request, deadline=FOREVER) for request in requests))
        for request, answer in zip(requests, answers, strict=True):
            expected = series_outputs(request)
            for name in expected:
                assert abs(answer.outputs[name] - expected[name]).max() <= 1e-6
        assert version.backend.rows_per_call == [3, 1, 2]
        assert metrics.batch_elements == {("series", "1"): 27 + 20 + 14}
        assert metrics.padding_elements == {("series", "1"): 14 + 0 + 5}
        rendered = metrics.render().decode()
        assert 'zto_batch_elements_total{model="series",version="1"} 61.0' in rendered
        assert 'zto_padding_elements_total{model="series",version="1"} 19.0' in rendered
        catalog.close()

    asyncio.run(scenario())


def test_a_model_settles_on_one_row_without_its_padding_before_it_serves(tmp_path: Path) -> None:
    series_bundle(tmp_path, [4, 1, 6], max_rows=4, max_elements=30)

    async def scenario() -> None:
        catalog = Catalog(Settings(models_dir=tmp_path, backend="dummy", run_on="loop"), Metrics())
        await catalog.load(lambda manifest, golden: None)
        version = catalog.resolve("series")
        assert isinstance(version.backend, DummyBackend)
        assert version.backend.settled_on is not None
        assert version.backend.settled_on["lengths"].tolist() == [4]
        assert {array.shape[1] for name, array in version.backend.settled_on.items() if name != "lengths"} == {4}
        catalog.close()

    asyncio.run(scenario())
