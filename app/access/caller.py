"""The other side of access: the key that a tool of ours sends to a service, and whom it takes for that service.

A key is never a word of the command line, which everybody on the machine can read: it stands in a file, or in the
environment.
"""

import argparse
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from app.errors import SettingsError
from app.settings import CALLERS_KEY

# and not Authorization, which may be a proxy's on the way
HEADER = "X-API-Key"
# a file that is longer is no key's
MAX_KEY_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, and whom it believes.

    Attributes:
        key: Sent with every request; None for none.
        ca: File of the certificates (PEM) of which one has signed the service's, or is it; None for those that the
            machine trusts, or ``SSL_CERT_FILE`` names.
    """

    key: str | None = field(default=None, repr=False)
    ca: Path | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What every request has beside its own."""
        return {} if self.key is None else {HEADER: self.key}

    def tls(self) -> ssl.SSLContext:
        """Return whom to believe over TLS.

        Raises:
            SettingsError: The file cannot be read, or holds no certificate.
        """
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as exc:
            raise SettingsError(f"--ca {self.ca} holds no certificates in PEM that can be read: {exc}") from exc


def own_tls() -> ssl.SSLContext:
    """Return what believes a service that this very process has started on loopback, whatever its certificate says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def why_untrusted(error: Exception) -> str | None:
    """Return why a service was not believed, with what helps; None where the error is another."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return None
    return f"its certificate is not trusted: {error.verify_message}; --ca FILE names the one that has signed it"


def help_with(status: int) -> str:
    """Return what helps a caller who got a status, as the end of a sentence; empty where that is no matter of keys."""
    return f"; name the key with --key-file FILE, or {CALLERS_KEY}" if status == HTTPStatus.UNAUTHORIZED else ""


def add_options(group: "argparse._ArgumentGroup") -> None:
    """Add the options of a tool that asks a service."""
    group.add_argument("--key-file", type=Path, metavar="FILE", help=f"holds the key (default: {CALLERS_KEY})")
    group.add_argument(
        "--ca", type=Path, metavar="FILE", help="certificates to trust, PEM (default: SSL_CERT_FILE, or the machine's)"
    )


def caller_of(options: argparse.Namespace, environ: Mapping[str, str]) -> Caller:
    """Return who asks, as options and environment say; the options count for more.

    Raises:
        SettingsError: The file of the key cannot be read, or what it holds is no key. The message does not tell it.
    """
    file: Path | None = options.key_file
    if file is not None:
        return Caller(key=_key(_read(file), f"--key-file {file}"), ca=options.ca)
    key = environ.get(CALLERS_KEY)
    return Caller(key=None if key is None else _key(key, CALLERS_KEY), ca=options.ca)


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_KEY_BYTES + 1).decode("latin-1")
    except OSError as exc:
        raise SettingsError(f"--key-file {file} cannot be read: {exc.strerror or exc}") from exc


def _key(text: str, place: str) -> str:
    key = text.strip()
    if len(text) > MAX_KEY_BYTES or not re.fullmatch(r"[!-~]+", key):
        raise SettingsError(
            f"{place} holds no key: it is one word of visible ASCII characters, as `python -m app keys new` prints it"
        )
    return key
