"""The file of the desired state: what is kept, and what becomes of one that is no good."""

import json
from pathlib import Path

import pytest

from app.errors import NothingToRollBack
from app.serving.policy import Policy, Shadow
from app.serving.state import MAX_HISTORY, SET_ASIDE, STATE_FILE, Desired, StateFile

PINNED = Policy(default=2, labels={"canary": 3}, weights={"canary": 0.1}, keep="served", shadow=Shadow(version=4))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    wished = {"cnn": Desired(policy=PINNED, history=(Policy(), Policy(default=1))), "mlp": Desired(loaded=False)}
    folder = tmp_path / "made" / "when-needed"
    assert StateFile(folder).write(wished) is None
    assert StateFile(folder).read() == wished
    assert [path.name for path in folder.iterdir()] == [STATE_FILE]


def test_without_a_folder_nothing_is_kept_and_the_reason_is_told() -> None:
    file = StateFile(None)
    assert file.write({"cnn": Desired()}) == file.lasts_because == "ZTO_STATE_DIR is not set"
    assert file.read() == {}


def test_without_a_file_nothing_is_wished(tmp_path: Path) -> None:
    assert StateFile(tmp_path).read() == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "EOF while parsing"),
        ("[]", "document"),
        (json.dumps({"schema_version": 2, "models": {}}), "schema_version"),
        (json.dumps({"schema_version": 1, "models": {"cnn": {"policy": {"default": 0}}}}), "models.cnn.policy.default"),
        ("\0" * 64, "expected value"),
    ],
)
def test_a_broken_file_is_told_and_set_aside(
    tmp_path: Path, text: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / STATE_FILE).write_text(text)
    assert StateFile(tmp_path).read() == {}
    assert (tmp_path / SET_ASIDE).read_text() == text
    assert not (tmp_path / STATE_FILE).exists()
    (record,) = caplog.records
    assert "is not heeded" in record.getMessage()
    assert f"set aside as {SET_ASIDE}" in record.getMessage()
    assert told.lower() in record.getMessage().lower()


def test_a_file_that_cannot_be_opened_keeps_nobody_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / STATE_FILE).mkdir()
    assert StateFile(tmp_path).read() == {}
    assert "cannot be read" in caplog.text


def test_where_it_cannot_be_written_the_reason_is_told_and_nothing_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).mkdir()  # what is in the way fails as a read-only folder does, and does so for root too
    told = StateFile(tmp_path).write({"cnn": Desired(policy=PINNED)})
    assert told is not None
    assert told.startswith("control.json cannot be written in ZTO_STATE_DIR: ")
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]
    (tmp_path / "file").touch()
    assert "cannot be written" in str(StateFile(tmp_path / "file").write({}))


def test_a_policy_is_rolled_back_step_by_step() -> None:
    first, second, third = Policy(), Policy(default=1), Policy(default=2)
    desired = Desired.at_start(first).with_policy(second).with_policy(third).with_policy(third)
    assert desired.history == (first, second)
    back = desired.rolled_back()
    assert (back.policy, back.history) == (second, (first,))
    assert back.rolled_back().policy == first
    with pytest.raises(NothingToRollBack):
        back.rolled_back().rolled_back()


def test_the_oldest_policies_are_forgotten() -> None:
    desired = Desired()
    for number in range(1, 2 * MAX_HISTORY):
        desired = desired.with_policy(Policy(default=number))
    assert len(desired.history) == MAX_HISTORY
    assert desired.history[-1] == Policy(default=2 * MAX_HISTORY - 2)
    assert Desired.model_validate_json(desired.model_dump_json()) == desired
