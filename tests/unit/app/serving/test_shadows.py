"""Which shadows there are, as policies and versions come and go; and what one has to show before it is promoted."""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.bundle.manifest import Tolerance
from app.comparison import Comparison
from app.errors import NotPromotable
from app.metrics import Metrics
from app.serving.catalog import Catalog
from app.serving.policy import Policy
from app.serving.policy import Shadow as Wish
from app.serving.shadows import Standing
from app.serving.versions import Model
from app.settings import Settings
from tests.support.bundles import dummy_bundle
from tests.support.jobs import FOREVER
from tests.support.shadowed import ODD, pictures

# what is computed here takes no time that a budget would miss
WISH = {"version": 2, "cpu_share": 1.0}


class Scene:
    """A model of three versions, of which the second disagrees about odd pictures."""

    def __init__(self, catalog: Catalog, metrics: Metrics) -> None:
        self.catalog, self.metrics = catalog, metrics
        self.model: Model = catalog.models["dummy"]

    def adopt(self, default: int = 1, **wish: Any) -> None:
        self.model.adopt(Policy(default=default, shadow=Wish(**WISH | wish)))

    @property
    def standing(self) -> Standing:
        standing = self.catalog.shadows.standing("dummy")
        assert standing is not None
        return standing

    async def ask(self, *firsts: float) -> None:
        batcher = self.model.default.batcher
        assert batcher is not None
        await batcher.submit(pictures(*firsts), deadline=FOREVER)

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not is_so():  # noqa: ASYNC110  what is waited for tells nobody
                await asyncio.sleep(0.001)


def play(models_dir: Path, act: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    for version in (1, 2, 3):
        dummy_bundle(models_dir, version=version, behavior={"reverses_on": ODD} if version == 2 else None)

    async def scenario() -> None:
        metrics = Metrics()
        catalog = Catalog(Settings(models_dir=models_dir, backend="dummy", run_on="loop"), metrics)
        await catalog.load(lambda manifest, golden: None)
        try:
            await act(Scene(catalog, metrics))
        finally:
            catalog.close()

    asyncio.run(scenario())


def test_a_shadow_follows_its_policy_without_being_told(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        assert scene.catalog.shadows.standing("dummy") is None
        batcher = scene.model.versions[0].batcher
        assert batcher is not None
        scene.adopt()
        await scene.wait_until(lambda: batcher.tap is not None)
        await scene.ask(1, ODD)
        await scene.wait_until(lambda: scene.standing.comparison.compared == 2)
        assert scene.standing.serving == 1
        assert scene.standing.waits_because is None
        assert scene.standing.definition is not None
        scene.model.adopt(Policy(default=1))
        await scene.wait_until(lambda: batcher.tap is None)
        assert scene.metrics.comparisons == {}
        assert sum(scene.metrics.shadow_rows.values()) == 2  # counters never fall

    play(tmp_path, act)


def test_the_figures_begin_anew_with_another_serving_version_and_with_another_shadow(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.adopt()
        scene.catalog.shadows.settle()
        await scene.ask(1)
        await scene.wait_until(lambda: scene.standing.comparison.compared == 1)
        for default, version in ((3, 2), (3, 1), (2, 1)):
            scene.adopt(default, version=version)
            await scene.wait_until(lambda: scene.standing.waits_because is None)
            assert (scene.standing.serving, scene.standing.comparison.compared) == (default, 0)
            await scene.ask(1)
            await scene.wait_until(lambda: scene.standing.comparison.compared == 1)
            assert len(scene.metrics.comparisons) == 1

    play(tmp_path, act)


def test_the_figures_go_on_where_only_the_shares_change_and_begin_anew_with_the_tolerance(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.adopt()
        scene.catalog.shadows.settle()
        await scene.ask(1)
        await scene.wait_until(lambda: scene.standing.comparison.compared == 1)
        scene.adopt(cpu_share=0.9)
        assert scene.standing.comparison.compared == 1
        await scene.wait_until(lambda: scene.standing.waits_because is None)
        await scene.ask(1)
        await scene.wait_until(lambda: scene.standing.comparison.compared == 2)
        scene.adopt(tolerance=Tolerance(atol=1.0))
        await scene.wait_until(lambda: scene.standing.waits_because is None)
        assert scene.standing.comparison.compared == 0

    play(tmp_path, act)


def test_what_keeps_a_shadow_from_beginning_is_told(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.adopt(version=9)
        assert scene.standing.waits_because == "there is no version 9"
        scene.model.versions[1].release()
        scene.adopt()
        assert scene.standing.waits_because == "dummy/2 is unloaded"
        scene.model.versions[2].sicken("it is broken")
        scene.model.versions[0].sicken("it is broken too")
        scene.model.adopt(Policy(shadow=Wish(version=3)))
        assert scene.standing.waits_because == "dummy/3 is sick: it is broken"

    play(tmp_path, act)


def test_a_shadow_that_goes_out_ends_the_comparison_and_its_figures_stay(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.adopt()
        scene.catalog.shadows.settle()
        await scene.ask(1, ODD)
        await scene.wait_until(lambda: scene.standing.comparison.compared == 2)
        scene.model.versions[1].sicken("it is broken")
        batcher = scene.model.versions[0].batcher
        assert batcher is not None
        await scene.wait_until(lambda: batcher.tap is None)
        assert scene.standing.comparison.compared == 2
        assert scene.standing.waits_because == "dummy/2 is sick: it is broken"
        with pytest.raises(NotPromotable, match="it is broken"):
            scene.catalog.shadows.expect_promotable("dummy", min_rows=1, min_agreement=0)

    play(tmp_path, act)


def test_it_waits_until_nobody_else_has_anything_to_do(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, "other")

    async def act(scene: Scene) -> None:
        scene.adopt()
        scene.catalog.shadows.settle()
        other = scene.catalog.models["other"].default.batcher
        assert other is not None
        with ThreadPoolExecutor(1) as thread:
            free = threading.Event()
            thread.submit(free.wait)
            other.executor = thread  # on which its batch cannot begin
            busy = other.submit(pictures(1), deadline=FOREVER)
            await scene.wait_until(lambda: other.waiting_rows == 0)
            await scene.ask(1)
            for _ in range(50):
                await asyncio.sleep(0.001)
            assert scene.standing.comparison.compared == 0
            free.set()
            await busy
        await scene.wait_until(lambda: scene.standing.comparison.compared == 1)

    play(tmp_path, act)


def test_promotion_counts_what_other_workers_have_found(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        scene.adopt(min_rows=4)
        scene.catalog.shadows.settle()
        await scene.ask(1, 2)
        await scene.wait_until(lambda: scene.standing.comparison.compared == 2)
        with pytest.raises(NotPromotable, match="2 rows of version 2 were compared with version 1, and 4 are asked"):
            scene.catalog.shadows.expect_promotable("dummy")
        scene.metrics.share(lambda own: [json.loads(json.dumps(own))])  # as one who has seen the same
        assert scene.catalog.shadows.expect_promotable("dummy").comparison.agreed == 4

    play(tmp_path, act)


def test_a_model_without_a_shadow_has_nothing_to_promote(tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        with pytest.raises(NotPromotable, match="names no shadow"):
            scene.catalog.shadows.expect_promotable("dummy")

    play(tmp_path, act)


def standing(agreed: int, disagreed: int = 0, failed: int = 0, waits_because: str | None = None) -> Standing:
    found = Comparison()
    found.agreed, found.disagreed, found.failed = agreed, disagreed, failed
    return Standing(Wish(version=2, min_agreement=0.9, min_rows=100), 1, found, "it agrees", waits_because)


@pytest.mark.parametrize(
    ("agreed", "disagreed", "failed", "asked", "told"),
    [
        (90, 10, 0, {}, None),
        (89, 11, 0, {}, "version 2 agrees with version 1 on 89 of 100 rows, 0.89, and 0.9 is asked for"),
        (99, 0, 0, {}, "99 rows of version 2 were compared with version 1, and 100 are asked for"),
        (0, 0, 0, {}, "0 rows of version 2 were compared with version 1, and 100 are asked for"),
        (200, 0, 1, {}, "version 2 had no answer for 1 of 201 rows"),
        (90, 10, 0, {"min_agreement": 0.95}, "version 2 agrees with version 1 on 90 of 100 rows, 0.9, and 0.95"),
        (80, 20, 0, {"min_agreement": 0.8}, None),
        (9, 0, 0, {"min_rows": 9}, None),
        (90, 10, 0, {"min_rows": 101}, "100 rows of version 2 were compared with version 1, and 101 are asked for"),
    ],
)
def test_a_shadow_is_promoted_for_enough_rows_that_agree_and_none_that_failed(
    agreed: int, disagreed: int, failed: int, asked: dict[str, Any], told: str | None
) -> None:
    refusal = standing(agreed, disagreed, failed).refusal(**asked)
    assert (refusal is None) if told is None else (refusal is not None and refusal.startswith(told))


def test_a_shadow_that_is_compared_with_nobody_is_not_promoted() -> None:
    assert standing(1000, waits_because="dummy/2 is failed").refusal() == "there is no comparison: dummy/2 is failed"
