"""Keys: who is let on, what a file may say, and what happens when it changes."""

import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.access import key_file
from app.access.key_file import KeyEntry, KeyFile
from app.access.keys import MAX_KNOWN, Holder, Keys
from app.access.roles import Role
from app.errors import NotAllowed, SettingsError, WrongKey
from tests.support.keys import make_key

ADMIN_KEY = b"open-sesame-1"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def bearer(key: str) -> bytes:
    return f"Bearer {key}".encode()


def test_key_says_whose_it_is_in_either_header_and_again_from_memory(file: Path) -> None:
    app, other = make_key(file, "app", "predict"), make_key(file, "other", "read", "predict")
    keys = Keys(file)
    for _ in range(2):
        assert keys.holder(bearer(app), b"").name == "app"
        assert keys.holder(b"", other.encode()).name == "other"
        assert keys.holder(b"bearer  " + other.encode(), b"").roles == {Role.READ, Role.PREDICT}


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [(b"", b""), (b"Bearer", b""), (b"Bearer ", b""), (b"Bearer zto_no", b""), (b"", b"zto_no"), (b"", b"\xff"),
     (b"Basic GOOD", b""), (b"GOOD", b""), (b"Bearer GOOD, Bearer GOOD", b""), (b"", b"GOOD, GOOD"),
     (b"", b"Bearer GOOD"), (b"Bearer GOOD", b"zto_no"), (b"Bearer GOOD", b"OTHER")],
)  # fmt: skip
def test_whoever_has_no_good_key_is_refused_and_no_key_is_told(
    file: Path, authorization: bytes, api_key: bytes
) -> None:
    good, other = make_key(file, "app", "predict").encode(), make_key(file, "other", "predict").encode()
    keys = Keys(file)
    sent = [header.replace(b"GOOD", good).replace(b"OTHER", other) for header in (authorization, api_key)]
    for _ in range(2):
        with pytest.raises(WrongKey) as caught:
            keys.holder(*sent)
        assert good.decode() not in str(caught.value)
        keys.holder(bearer(good.decode()), b"")  # known from now on


def test_a_proxy_s_own_authorization_beside_a_good_key_does_not_matter(file: Path) -> None:
    key = make_key(file, "late", "predict")
    keys = Keys(file)
    assert keys.holder(b"Bearer eyJ.of.a.platform", key.encode()).name == "late"
    assert keys.holder(b"Basic dXNlcjp4", key.encode()).name == "late"
    assert keys.holder(bearer(key), key.encode()).name == "late"


def test_role_that_lacks_is_named_and_admin_has_all(file: Path) -> None:
    reader, operator = make_key(file, "dash", "read"), make_key(file, "ops", "admin")
    keys = Keys(file)
    with pytest.raises(NotAllowed, match=r"role predict; the key 'dash' has: read"):
        keys.expect(Role.PREDICT, bearer(reader), b"")
    for role in Role:
        assert isinstance(keys.expect(role, bearer(operator), b""), Holder)


def test_key_is_good_until_its_end_and_not_after(file: Path) -> None:
    end = datetime.now(UTC) + timedelta(days=1)
    key = make_key(file, "app", "predict", expires=end)
    now = [end.timestamp() - 1]
    keys = Keys(file, clock=lambda: now[0])
    assert keys.holder(bearer(key), b"").name == "app"
    now[0] = end.timestamp()
    with pytest.raises(WrongKey, match="expired"):
        keys.holder(bearer(key), b"")


def test_admin_key_of_the_environment_goes_on_beside_the_file(file: Path) -> None:
    make_key(file, "app", "predict")
    keys = Keys(file, ADMIN_KEY)
    for role in Role:
        holder = keys.expect(role, b"Bearer " + ADMIN_KEY, b"")
        assert holder is not None
        assert holder.name == "ZTO_ADMIN_KEY"


def test_without_a_file_only_operators_are_asked() -> None:
    keys = Keys(None, ADMIN_KEY)
    assert keys.expect(Role.PREDICT, b"", b"") is None
    assert keys.expect(Role.READ, b"Bearer of-another", b"") is None
    with pytest.raises(WrongKey):
        keys.expect(Role.ADMIN, b"", b"")
    with pytest.raises(NotAllowed, match="ZTO_ADMIN_KEY"):
        Keys().expect(Role.ADMIN, b"", b"")


def test_empty_file_lets_nobody_in(file: Path) -> None:
    file.write_text('{"keys": []}')
    with pytest.raises(WrongKey):
        Keys(file).expect(Role.PREDICT, b"Bearer zto_x", b"")


def test_new_keys_are_heeded_and_revoked_ones_are_not(file: Path) -> None:
    old = make_key(file, "old", "predict")
    keys = Keys(file)
    assert keys.refresh() is None
    assert keys.holder(bearer(old), b"").name == "old"
    new = make_key(file, "new", "predict")
    key_file.change(file, lambda all_of: key_file.KeyFile(keys=all_of.keys[1:]))
    assert keys.refresh() is True
    assert keys.holder(bearer(new), b"").name == "new"
    with pytest.raises(WrongKey):
        keys.holder(bearer(old), b"")
    assert keys.refresh() is None


@pytest.mark.parametrize("broken", ["gone", "no json", '{"keys": [{"name": "x"}]}', "too long"])
def test_broken_new_file_keeps_the_old_keys_and_says_so_once(
    file: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = make_key(file, "app", "predict")
    keys = Keys(file)
    whole = file.read_bytes()
    if broken == "gone":
        file.unlink()
    else:
        file.write_text(" " * (key_file.MAX_FILE_BYTES + 1) if broken == "too long" else broken)
    with caplog.at_level(logging.ERROR):
        assert keys.refresh() is False
        assert keys.refresh() is None
    assert len(caplog.records) == 1
    assert "stay good" in caplog.text
    assert keys.holder(bearer(key), b"").name == "app"
    file.write_bytes(whole)
    assert keys.refresh() is True
    assert keys.holder(bearer(key), b"").name == "app"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"key": []}', '{"keys": [{"name": "a", "sha256": "secret"}]}'])
def test_service_does_not_start_with_a_file_of_another_kind_and_shows_nothing_of_it(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"keys\.json") as caught:
        Keys(file)
    assert "secret" not in str(caught.value)
    with pytest.raises(SettingsError, match="cannot be read"):
        Keys(file.with_name("nowhere"))


@pytest.mark.parametrize("twice", ["name", "sha256"])
def test_each_key_is_there_once(file: Path, twice: str) -> None:
    make_key(file, "a", "predict")
    entry = key_file.read(file).keys[0]
    other = entry.model_copy(update={"name": "b"} if twice == "sha256" else {"sha256": "0" * 64})
    file.write_text(f'{{"keys": [{entry.model_dump_json()}, {other.model_dump_json()}]}}')
    with pytest.raises(SettingsError, match=f"two keys have the {twice}"):
        Keys(file)


def test_file_that_could_not_be_read_is_read_once_its_mode_is_mended(file: Path) -> None:
    make_key(file, "app", "predict")
    keys = Keys(file)
    os.chmod(file, 0o640)  # which changes neither its content nor the time of that
    assert keys.refresh() is True
    assert keys.refresh() is None


def test_key_of_nothing_is_refused_since_everybody_would_have_it(file: Path) -> None:
    make_key(file, "a", "predict")
    sha256 = key_file.read(file).keys[0].sha256
    file.write_text(file.read_text().replace(sha256, key_file.digest_of(b"").hex()))
    with pytest.raises(SettingsError, match="SHA-256 of nothing"):
        Keys(file)


def test_blanks_around_a_key_are_none_of_it(file: Path) -> None:
    key = make_key(file, "a", "predict").encode()
    keys = Keys(file)
    for header in (key + b" ", b"\t" + key):  # which a parser of HTTP may leave there
        assert keys.holder(b"", header).name == "a"
        assert keys.holder(b"Bearer " + header, b"").name == "a"


class Compared(str):
    """A name that counts how often it is compared."""

    times = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return super().__eq__(other)


def test_file_of_many_keys_is_not_compared_each_with_each_while_requests_wait() -> None:
    Compared.times, many = 0, 2000
    KeyFile(
        keys=tuple(
            KeyEntry.model_construct(name=Compared(f"n{number}"), sha256=f"{number:064x}", roles=(Role.READ,))
            for number in range(many)
        )
    )
    assert Compared.times < many


def test_link_to_a_file_of_keys_stays_one_and_the_file_has_the_new_key(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    link = folder / "keys.json"
    make_key(file, "old", "predict")
    link.symlink_to(file)
    keys = Keys(file)
    new = make_key(link, "new", "predict")
    assert link.is_symlink()
    assert keys.refresh() is True
    assert keys.holder(bearer(new), b"").name == "new"


def test_headers_that_are_remembered_are_bounded(file: Path) -> None:
    key = make_key(file, "app", "predict")
    keys = Keys(file)
    for blanks in range(MAX_KNOWN + 10):
        assert keys.holder(b"Bearer " + b" " * blanks + key.encode(), b"").name == "app"
        if blanks % 1000 == 0:
            with pytest.raises(WrongKey):
                keys.holder(b"Bearer wrong%d" % blanks, b"")
    assert len(keys._known_bearers) <= MAX_KNOWN


def test_file_has_no_key_and_is_for_its_owner_alone_and_keeps_what_it_is_for(file: Path) -> None:
    key = make_key(file, "app", "predict")
    assert file.stat().st_mode & 0o777 == 0o600
    assert key not in file.read_text()
    assert len(key) >= len(key_file.PREFIX) + 22  # 128 bits in base64
    os.chmod(file, 0o640)
    make_key(file, "more", "predict")
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in file.parent.iterdir()] == ["keys.json"]
