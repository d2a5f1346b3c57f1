"""Who can reach the service, and whether it may start so."""

import pytest

from app.access.binding import expect_guarded, is_loopback
from app.errors import SettingsError
from app.settings import Settings


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "::1", "0:0:0:0:0:0:0:1"])
def test_loopback_needs_nothing(host: str) -> None:
    assert is_loopback(host)
    expect_guarded(Settings(host=host), {})


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "10.0.0.1", "fe80::1", "my-machine", "127.1", "localhost.example"]
)
def test_beyond_it_there_are_keys_or_somebody_has_said_that_none_are_needed(host: str) -> None:
    assert not is_loopback(host)
    for settings in ({}, {"ZTO_ADMIN_KEY": "a-long-key"}):
        with pytest.raises(SettingsError, match=r"ZTO_API_KEYS_FILE .*ZTO_ALLOW_ANONYMOUS=1") as caught:
            expect_guarded(Settings.from_environ({"ZTO_HOST": host} | settings), {})
        assert ("ZTO_ADMIN_KEY" in str(caught.value)) == bool(settings)
    for settings in ({"ZTO_API_KEYS_FILE": "keys.json"}, {"ZTO_ALLOW_ANONYMOUS": "1"}):
        expect_guarded(Settings.from_environ({"ZTO_HOST": host} | settings), {})


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_key_of_a_caller_is_not_taken_for_one_that_is_asked_for(host: str) -> None:
    environ = {"ZTO_HOST": host, "ZTO_ALLOW_ANONYMOUS": "1", "ZTO_API_KEY": "zto_secret"}
    with pytest.raises(SettingsError, match=r"ZTO_API_KEY is what predict and bench send.* ZTO_API_KEYS_FILE") as told:
        expect_guarded(Settings.from_environ(environ), environ)
    assert "zto_secret" not in str(told.value)
    environ["ZTO_API_KEYS_FILE"] = "keys.json"
    expect_guarded(Settings.from_environ(environ), environ)
