import pytest

from app.access.origins import Origins
from app.errors import SettingsError
from app.settings import Settings

ALLOW = b"access-control-allow-origin"


def origins(value: str) -> Origins:
    return Origins(Settings.from_environ({"ZTO_CORS_ORIGINS": value}))


def test_no_origin_is_allowed_until_one_is_named() -> None:
    assert not Origins(Settings())


def test_named_origins_are_told_their_own_name_and_others_nothing() -> None:
    found = origins("https://a.example,http://localhost:3000")
    assert dict(found.answer(b"https://a.example"))[ALLOW] == b"https://a.example"
    assert dict(found.answer(b"HTTPS://A.example"))[ALLOW] == b"HTTPS://A.example"
    for other in (b"", b"null", b"https://a.example.evil", b"https://a.example:444", b"http://a.example"):
        assert ALLOW not in dict(found.answer(other))
        assert found.preflight(other) is None
        assert (b"vary", b"origin") in found.answer(other)


def test_star_stands_for_all_and_is_the_same_answer_to_each() -> None:
    found = origins("*")
    assert dict(found.answer(b"https://x.example")) == dict(found.answer(b""))
    assert dict(found.answer(b""))[ALLOW] == b"*"
    assert found.preflight(b"https://x.example")


@pytest.mark.parametrize(
    "value", ["example.org", "https://a.example/", "https://a b", "*,https://a.example", "ftp://a"]
)
def test_what_is_no_origin_is_refused_at_the_start(value: str) -> None:
    with pytest.raises(SettingsError, match="ZTO_CORS_ORIGINS"):
        origins(value)
