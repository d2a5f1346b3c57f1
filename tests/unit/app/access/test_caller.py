"""The key that our tools send, and whom they believe; the tools themselves: tests/integration/test_callers.py."""

import argparse
import ssl
from pathlib import Path

import pytest

from app.access.caller import Caller, add_options, caller_of, help_with, why_untrusted
from app.errors import SettingsError


def caller(*arguments: object, **environ: str) -> Caller:
    parser = argparse.ArgumentParser()
    add_options(parser.add_argument_group("access"))
    return caller_of(parser.parse_args(list(map(str, arguments))), environ)


def test_key_comes_from_the_file_or_the_environment_and_the_file_counts(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("zto_file\r\n")
    assert caller(ZTO_API_KEY="zto_env\n").headers == {"X-API-Key": "zto_env"}
    assert caller("--key-file", tmp_path / "key", ZTO_API_KEY="zto_env").headers == {"X-API-Key": "zto_file"}
    assert caller().headers == {}
    assert "zto_env" not in repr(caller(ZTO_API_KEY="zto_env"))


@pytest.mark.parametrize("text", ["", "\n", "secret two", "secret\nX-Other: 1", "secret\x00", "secrét", "x" * 5000])
def test_what_is_no_key_is_refused_and_not_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(SettingsError, match=r"^--key-file .* holds no key: ") as caught:
        caller("--key-file", tmp_path / "key")
    assert "secr" not in str(caught.value)
    with pytest.raises(SettingsError, match=r"^ZTO_API_KEY holds no key: "):
        caller(ZTO_API_KEY=text)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^--key-file .*nowhere cannot be read: No such file"):
        caller("--key-file", tmp_path / "nowhere")
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("nowhere", "ca.pem"):
        with pytest.raises(SettingsError, match=rf"^--ca .*{name} holds no certificates in PEM that can be read: "):
            caller("--ca", tmp_path / name).tls()


def test_what_helps_is_told_where_it_would() -> None:
    assert "--key-file" in help_with(401)
    assert help_with(403) == help_with(404) == ""
    assert why_untrusted(ssl.SSLError("unexpected eof")) is None
