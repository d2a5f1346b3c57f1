"""Looking at the models folder: what is offered, when, and what is not."""

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from app.bundle.loader import MANIFEST_FILE, BundleRef
from app.bundle.signing import SIGNATURE_FILE
from app.errors import NotLoaded, Overloaded, ServingError
from app.serving.orders import Outcome
from app.serving.polling import PATIENCE_LOOKS, Poller, lacking
from app.serving.state import Desired
from app.serving.versions import State
from tests.support.bundles import ARTIFACT_FILE, dummy_bundle
from tests.support.fleet import Service, Worker, until
from tests.support.fleet import run as run_two
from tests.support.signatures import key_pair


class Models:
    """Takes note of what is offered; :class:`app.serving.repository.Repository` loads it."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.unwanted: set[str] = set()
        self.shared: dict[str, str] = {}
        self.at_start = {"dummy": frozenset({1})}
        self.error: ServingError | None = None

    @property
    def leads(self) -> bool:
        return True

    def offered(self, name: str) -> str:
        return self.shared.get(name, "")

    def known(self, name: str) -> frozenset[int]:
        return self.at_start.get(name, frozenset())

    def is_wanted(self, name: str) -> bool:
        return name not in self.unwanted

    async def load(self, name: str, *, within_s: float, offered: str) -> Outcome:
        assert within_s > 0
        self.loads.append(name)
        if isinstance(self.error, Overloaded):  # nothing was wished
            raise self.error
        self.shared[name] = offered
        if self.error is not None:
            raise self.error
        return Outcome(name=name, desired=Desired(), reached=(), lasts_because=None)


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    dummy_bundle(tmp_path / "models")
    return tmp_path / "models"


def run(models_dir: Path, scenario: Callable[[Poller, Models], Coroutine[Any, Any, None]]) -> Models:
    async def begin() -> Models:
        models = Models()
        poller = Poller(models_dir, models)
        await poller.begin()
        await scenario(poller, models)
        return models

    return asyncio.run(begin())


async def look(poller: Poller, times: int) -> None:
    for _ in range(times):
        await poller.turn()


def test_what_was_there_at_the_start_is_not_offered(models_dir: Path) -> None:
    assert run(models_dir, lambda poller, _: look(poller, 4)).loads == []


def test_what_came_between_the_start_and_the_first_look_is_offered(models_dir: Path) -> None:
    dummy_bundle(models_dir, version=2)  # the models of the start know version 1 alone
    assert run(models_dir, lambda poller, _: look(poller, 4)).loads == ["dummy"]


def test_a_bundle_that_is_renamed_into_place_is_offered_once_at_the_second_look(models_dir: Path) -> None:
    async def scenario(poller: Poller, models: Models) -> None:
        dummy_bundle(models_dir.parent / "away", version=2).rename(models_dir / "dummy" / "2")
        await look(poller, 1)
        assert models.loads == []
        await look(poller, 4)

    assert run(models_dir, scenario).loads == ["dummy"]


def test_a_new_model_and_a_removed_version_are_offered(models_dir: Path) -> None:
    async def scenario(poller: Poller, models: Models) -> None:
        dummy_bundle(models_dir, "other")
        dummy_bundle(models_dir, version=2)
        await look(poller, 4)
        assert sorted(models.loads) == ["dummy", "other"]
        shutil.rmtree(models_dir / "dummy" / "2")
        await look(poller, 4)

    assert sorted(run(models_dir, scenario).loads) == ["dummy", "dummy", "other"]


def test_a_bundle_that_grows_is_waited_for(models_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(poller: Poller, models: Models) -> None:
        whole = dummy_bundle(models_dir.parent / "away", version=2)
        folder = models_dir / "dummy" / "2"
        folder.mkdir()
        for file in sorted(whole.iterdir(), key=lambda path: path.name == MANIFEST_FILE):
            (folder / file.name).write_bytes(file.read_bytes()[:1])
            await look(poller, 1)
            (folder / file.name).write_bytes(file.read_bytes())
            await look(poller, 2)
            if file.name != MANIFEST_FILE:
                assert models.loads == []
        await look(poller, 2)

    assert run(models_dir, scenario).loads == ["dummy"]
    assert "dummy/2 is not whole, and is waited for: manifest.json cannot be read" in caplog.text


def test_a_bundle_that_stays_incomplete_is_offered_after_a_while_so_that_its_reason_is_told(models_dir: Path) -> None:
    async def scenario(poller: Poller, models: Models) -> None:
        folder = dummy_bundle(models_dir, version=2)
        (folder / ARTIFACT_FILE).unlink()
        await look(poller, PATIENCE_LOOKS)
        assert models.loads == []
        await look(poller, 3)
        assert models.loads == ["dummy"]
        (folder / ARTIFACT_FILE).write_text("{}")
        await look(poller, 3)

    assert run(models_dir, scenario).loads == ["dummy", "dummy"]


def test_what_was_not_loaded_is_offered_again_when_it_changes_and_not_before(
    models_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(poller: Poller, models: Models) -> None:
        models.error = NotLoaded("dummy/2: it is no good")
        folder = dummy_bundle(models_dir, version=2)
        await look(poller, 6)
        assert models.loads == ["dummy"]
        (folder / "notes.txt").write_text("mended")
        await look(poller, 6)

    assert run(models_dir, scenario).loads == ["dummy", "dummy"]
    assert "not served, or not all of it: dummy/2: it is no good" in caplog.text


def test_a_model_that_was_unloaded_is_left_alone(models_dir: Path) -> None:
    async def scenario(poller: Poller, models: Models) -> None:
        models.unwanted.add("dummy")
        dummy_bundle(models_dir, version=2)
        await look(poller, 4)
        assert models.loads == []
        models.unwanted.clear()
        await look(poller, 1)

    assert run(models_dir, scenario).loads == ["dummy"]


def test_what_another_worker_has_offered_is_not_offered_again(models_dir: Path) -> None:
    async def scenario(poller: Poller, models: Models) -> None:
        successor = Poller(models_dir, models)
        await successor.begin()
        dummy_bundle(models_dir, version=2)
        await look(poller, 3)
        await look(successor, 3)

    assert run(models_dir, scenario).loads == ["dummy"]


def test_a_folder_that_vanishes_takes_nothing_along(models_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    unmounted = models_dir.with_name("unmounted")

    async def scenario(poller: Poller, models: Models) -> None:
        shutil.move(models_dir, unmounted)
        await look(poller, 3)
        (models_dir / "empty").mkdir(parents=True)
        await look(poller, 3)
        shutil.rmtree(models_dir)
        shutil.move(unmounted, models_dir)
        await look(poller, 3)
        assert models.loads in ([], ["dummy"])  # loading what serves already changes nothing

    run(models_dir, scenario)
    assert caplog.text.count("cannot be read") == 1
    assert caplog.text.count("the folder of dummy holds no version any more; what is served of it goes on") == 1


def test_what_a_bundle_lacks_is_told(models_dir: Path) -> None:
    folder = models_dir / "dummy" / "1"
    ref = BundleRef(name="dummy", version=1, folder=folder)
    assert lacking(ref) is None
    (folder / ARTIFACT_FILE).write_text("{} ")
    assert lacking(ref) == "dummy.json has 3 bytes, the manifest says 2"
    (folder / ARTIFACT_FILE).unlink()
    assert lacking(ref) == "dummy.json: No such file or directory"
    (folder / MANIFEST_FILE).unlink()
    assert str(lacking(ref)).startswith("manifest.json cannot be read")


def test_what_was_refused_for_the_moment_is_offered_again(models_dir: Path) -> None:
    async def scenario(poller: Poller, models: Models) -> None:
        models.error = Overloaded("another worker is changing what is served", retry_after_s=1.0)
        dummy_bundle(models_dir, version=2)
        await look(poller, 3)
        models.error = None
        await look(poller, 3)

    assert run(models_dir, scenario).loads == ["dummy"] * 3  # at the second look, the third and the fourth


def test_looking_goes_on_after_a_folder_that_was_not_there_at_first_and_after_a_defect(
    models_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Defective(Models):
        def offered(self, name: str) -> str:
            if "no good" not in caplog.text:
                raise ValueError("no good")
            return super().offered(name)

    async def scenario() -> None:
        unmounted = models_dir.with_name("unmounted")
        shutil.move(models_dir, unmounted)
        models = Defective()
        looking = asyncio.create_task(Poller(models_dir, models).run(0.001))
        await until(lambda: "cannot be read" in caplog.text)
        shutil.move(unmounted, models_dir)
        dummy_bundle(models_dir, version=2)
        await until(lambda: models.loads == ["dummy"])
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking

    asyncio.run(scenario())
    assert "the models folder could not be looked at" in caplog.text


def test_a_version_that_arrives_unsigned_or_is_changed_afterwards_is_never_served_and_one_that_is_signed_is(
    tmp_path: Path,
) -> None:
    pair = key_pair(tmp_path)
    for version in (1, 2):
        pair.sign(dummy_bundle(tmp_path / "models", version=version))

    async def scenario(service: Service, one: Worker, two: Worker) -> None:
        poller = Poller(service.models_dir, one.repository)
        await poller.begin()
        folder = dummy_bundle(tmp_path / "away", version=3)
        (folder / "report.md").write_text("98%")
        folder = folder.rename(service.models_dir / "dummy" / "3")
        await look(poller, 4)
        assert_refused(one, two, "model.sig is missing, and ZTO_SIGNING_KEY asks for it", times=1)
        pair.sign(folder)
        (folder / "report.md").write_text("99%")
        await look(poller, 4)
        assert_refused(one, two, "not what was signed: 'report.md'", times=2)
        (folder / "report.md").write_text("98%")
        await look(poller, 4)
        assert (one.default, two.default) == (3, 3)
        (folder / SIGNATURE_FILE).unlink()  # what serves goes on, and says that its folder is no good any more
        await look(poller, 4)
        assert (one.default, two.default) == (3, 3)
        assert SIGNATURE_FILE in one.catalog.resolve("dummy").reason

    def assert_refused(one: Worker, two: Worker, reason: str, *, times: int) -> None:
        for worker in (one, two):
            assert worker.default == 2
            assert worker.states() == [State.READY, State.READY, State.FAILED]
            assert reason in worker.catalog.models["dummy"].versions[2].reason
            assert worker.metrics.swaps["dummy", "refused"] == times  # offered once for every change

    run_two(tmp_path, scenario, signing_key=pair.public)
