"""``python -m app keys``, as whoever runs a service uses it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.__main__ import main
from app.access import key_file
from app.access.keys import Keys
from app.access.roles import Role


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZTO_API_KEYS_FILE", str(tmp_path / "keys.json"))
    return tmp_path / "keys.json"


def test_new_key_is_printed_once_and_is_good(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "new", "app"]) == 0
    key = capsys.readouterr().out.strip()
    holder = Keys(file).holder(b"", key.encode())
    assert (holder.name, holder.roles) == ("app", {Role.PREDICT, Role.READ})
    assert main(["keys", "list"]) == 0
    assert key not in capsys.readouterr().out


def test_roles_end_and_rate_are_as_asked_for(file: Path) -> None:
    before = datetime.now(UTC)
    assert main(["keys", "new", "ops", "--roles", "admin,read", "--days", "90", "--rate", "5/second"]) == 0
    (entry,) = key_file.read(file).keys
    assert entry.roles == (Role.ADMIN, Role.READ)
    assert entry.rate == "5/second"
    assert entry.expires is not None
    assert abs(entry.expires - before - timedelta(days=90)) < timedelta(minutes=5)


def test_revoked_key_is_good_no_more(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["keys", "new", "app"])
    main(["keys", "new", "other"])
    assert main(["keys", "revoke", "app"]) == 0
    assert [entry.name for entry in key_file.read(file).keys] == ["other"]
    assert main(["keys", "revoke", "app"]) == 2
    assert "no key is named 'app'; there are: other" in capsys.readouterr().err


def test_list_shows_who_has_keys_and_which_are_over(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["keys", "new", "app", "--rate", "5/second"])
    file.write_text(file.read_text().replace('"rate"', '"expires": "2020-01-01T00:00:00Z", "rate"'))
    capsys.readouterr()
    assert main(["keys", "list"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "ROLES", "CREATED", "EXPIRES", "RATE"]
    assert "2020-01-01 00:00Z (over)" in row
    assert row.split()[0] == "app"
    assert row.endswith("5/second")


def test_end_that_only_another_zone_s_calendar_has_is_shown_as_it_stands(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["keys", "new", "app"])
    file.write_text(file.read_text().replace('"roles"', '"expires": "9999-12-31T23:59:00-12:00", "roles"'))
    capsys.readouterr()
    assert main(["keys", "list"]) == 0
    assert "9999-12-31 23:59-12:00" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [(["new", "app"], "is there already"), (["new", "a b"], "name"), (["new", "x", "--rate", "often"], "no rate")],
)
def test_what_cannot_be_is_told_and_changes_nothing(
    file: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["keys", "new", "app"])
    before = file.read_bytes()
    assert main(["keys", *words]) == 2
    assert told in capsys.readouterr().err
    assert file.read_bytes() == before


@pytest.mark.parametrize("words", [["--roles", "boss"], ["--days", "0"], ["--days", "x"], ["--days", "1e12"]])
def test_impossible_options_are_refused(file: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["keys", "new", "app", *words])
    assert not file.exists()


def test_file_must_be_named_and_its_folder_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ZTO_API_KEYS_FILE", raising=False)
    assert main(["keys", "new", "app"]) == 2
    assert "ZTO_API_KEYS_FILE" in capsys.readouterr().err
    assert main(["keys", "new", "app", "--file", str(tmp_path / "no" / "keys.json")]) == 2
    assert "error: " in capsys.readouterr().err
    assert main(["keys", "list", "--file", str(tmp_path / "none.json")]) == 2
