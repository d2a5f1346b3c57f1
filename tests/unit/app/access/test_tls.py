"""A certificate that changes while a service has it; handshakes are real, and in memory as the event loop does them."""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from app.access.tls import Certificate
from app.errors import SettingsError
from tests.support.certificates import ECDSA, RSA, certificate

Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    folder = tmp_path_factory.mktemp("pairs")
    kinds = {"ecdsa": ECDSA, "other": ECDSA, "rsa": RSA}
    return {name: certificate(folder, name, kind) for name, kind in kinds.items()}


def write(folder: Path, cert: Path, key: Path) -> Pair:
    (folder / "cert.pem").write_bytes(cert.read_bytes())
    (folder / "key.pem").write_bytes(key.read_bytes())
    return folder / "cert.pem", folder / "key.pem"


def shown(context: ssl.SSLContext, name: str | None = None) -> str:
    """Return the certificate that a client is shown, in PEM; the client takes any."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    client = trusting.wrap_bio(to_client, to_server, server_hostname=name)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    steps: list[Callable[[], None]] = [client.do_handshake, server.do_handshake]
    while steps:
        step = steps.pop(0)
        try:
            step()
        except ssl.SSLWantReadError:
            steps.append(step)
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return ssl.DER_cert_to_PEM_cert(der)


@pytest.mark.parametrize(("before", "after"), [("ecdsa", "rsa"), ("rsa", "ecdsa"), ("ecdsa", "other")])
def test_renewed_certificate_of_whatever_kind_is_shown_and_the_one_before_never_again(
    tmp_path: Path, pairs: dict[str, Pair], before: str, after: str
) -> None:
    served = Certificate(*write(tmp_path, *pairs[before]))
    assert shown(served.context) == pairs[before][0].read_text()
    write(tmp_path, *pairs[after])
    served.refresh()
    for name in (None, "models.example"):  # a client that asks an address names no host
        assert shown(served.context, name) == pairs[after][0].read_text()
    assert served.pair == (pairs[after][1].read_bytes(), pairs[after][0].read_bytes())


def test_half_of_a_pair_changes_nothing_and_the_other_half_brings_it(
    tmp_path: Path, pairs: dict[str, Pair], caplog: pytest.LogCaptureFixture
) -> None:
    served = Certificate(*write(tmp_path, *pairs["ecdsa"]))
    write(tmp_path, pairs["other"][0], pairs["ecdsa"][1])
    with caplog.at_level(logging.ERROR):
        served.refresh()
        served.refresh()  # told once
    assert len(caplog.records) == 1
    assert shown(served.context) == pairs["ecdsa"][0].read_text()
    write(tmp_path, *pairs["other"])
    served.refresh()
    assert shown(served.context) == pairs["other"][0].read_text()


def test_pair_that_does_not_fit_is_refused_at_the_start(tmp_path: Path, pairs: dict[str, Pair]) -> None:
    # of two kinds, OpenSSL says no more than that no certificate is assigned
    with pytest.raises(
        SettingsError, match=r"no TLS with ZTO_TLS_CERT=.* the key is that of the certificate and has no password$"
    ):
        Certificate(*write(tmp_path, pairs["other"][0], pairs["rsa"][1]))
