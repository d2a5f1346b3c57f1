"""The doors of models that come and go."""

from pathlib import Path

from app.main import ZeroToOne, create_app
from app.settings import Settings
from app.workers.board import Board
from tests.support.bundles import dummy_bundle


def doors_of(app: ZeroToOne, name: str) -> set[str]:
    """Return all paths that lead to a model, of whatever kind."""
    doors = app.doors
    found = {
        *doors.ways,
        *doors.infer_paths,
        *(path.decode() for path in doors.direct.targets),
        *app.openapi()["paths"],
    }
    return {path for path in found if name in path.split("/")}


def test_a_worker_that_begins_later_has_no_door_for_a_model_that_the_others_do_not_serve(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    board = Board(2)
    create_app(Settings(models_dir=tmp_path)).repository.commands.begin(board, 0)
    dummy_bundle(tmp_path, "other")
    successor = create_app(Settings(models_dir=tmp_path), worker=1)
    assert {"/predict/other", "/v2/models/other/infer"} <= doors_of(successor, "other")
    successor.repository.commands.begin(board, 1)
    assert doors_of(successor, "other") == set()
    assert {"/predict/dummy", "/v2/models/dummy/infer"} <= doors_of(successor, "dummy")
    assert successor.catalog.required == ("dummy",)
    board.close()
