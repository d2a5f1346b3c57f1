"""The admin key: who has it is let on, and it is shown nowhere."""

import pickle
from pathlib import Path

import pytest

from app.access.roles import Role
from app.admission import Admission
from app.errors import NotAllowed, RequestError, SettingsError, WrongKey
from app.metrics import Metrics
from app.settings import Settings

KEY = "open-sesame-1"


def admission(**settings: str) -> Admission:
    return Admission(
        Settings.from_environ({f"ZTO_{name.upper()}": value for name, value in settings.items()}), Metrics()
    )


def refusal(admission: Admission, header: bytes | None) -> RequestError | None:
    headers = [] if header is None else [(b"authorization", header)]
    return admission.admit({"headers": headers}, Role.ADMIN).refusal


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER"])
def test_who_has_the_key_is_let_on(scheme: bytes) -> None:
    assert refusal(admission(admin_key=KEY), scheme + b" " + KEY.encode()) is None


@pytest.mark.parametrize(
    "header", [None, b"", b"Bearer", b"Bearer ", KEY.encode(), b"Basic " + KEY.encode(), b"Bearer open-sesame-2",
               b"Bearer " + KEY.encode() + b", Bearer x", b"Bearer \xff\xfe"],
)  # fmt: skip
def test_who_has_none_or_another_one_is_not(header: bytes | None) -> None:
    found = refusal(admission(admin_key=KEY), header)
    assert isinstance(found, WrongKey)
    assert KEY not in str(found)


def test_without_a_key_nobody_is() -> None:
    found = refusal(admission(), b"Bearer " + KEY.encode())
    assert isinstance(found, NotAllowed)
    assert "set ZTO_ADMIN_KEY" in str(found)


def test_key_is_in_no_text_of_the_settings_and_goes_to_a_worker_all_the_same() -> None:
    settings = Settings.from_environ({"ZTO_ADMIN_KEY": KEY, "ZTO_MODELS_DIR": "m"})
    assert KEY not in repr(settings) + str(settings) + settings.model_dump_json()
    copy = pickle.loads(pickle.dumps(settings))
    assert copy.admin_key.get_secret_value() == KEY
    assert copy.models_dir == Path("m")


@pytest.mark.parametrize("key", ["short-1", "", "with blanks in it", "schlüssel-schlüssel", "line\nbreak-line"])
def test_key_that_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environ({"ZTO_ADMIN_KEY": key})
    assert str(caught.value).startswith("ZTO_ADMIN_KEY: ")
    assert not key or key not in str(caught.value)
