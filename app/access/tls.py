"""TLS: one certificate for every port, read again when it changes."""

import logging
import os
import ssl
from pathlib import Path

from app.errors import SettingsError
from app.settings import Settings

logger = logging.getLogger("app.access")


class Certificate:
    """A certificate and its key.

    Args:
        cert: In PEM, with those between it and the root behind it.
        key: In PEM, without a password.

    Attributes:
        context: For new connections; those that are open keep what they began with. It stays the same object, and has
            each connection take the certificate that was read last.
        pair: Key and certificate as they were read last.

    Raises:
        SettingsError: They cannot be read, or do not belong together.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._files = cert, key
        self._stamp = self._stamp_now()
        try:
            self._latest, self.pair = self._read()
        except (OSError, ssl.SSLError) as exc:
            raise SettingsError(
                f"no TLS with ZTO_TLS_CERT={str(cert)!r}, ZTO_TLS_KEY={str(key)!r}: {exc}; both are PEM, and the key "
                "is that of the certificate and has no password"
            ) from exc
        self.context = self._latest
        # a context keeps one certificate of each kind, so a new one of RSA, read into it, would leave that of ECDSA
        # there, which clients like better: what is new is a context of its own
        self.context.sni_callback = self._hand_over

    @classmethod
    def of(cls, settings: Settings) -> "Certificate | None":
        """Return that of the settings; None where there is no TLS.

        Raises:
            SettingsError: It cannot be read.
        """
        if settings.tls_cert is None or settings.tls_key is None:
            return None
        return cls(settings.tls_cert, settings.tls_key)

    def refresh(self) -> None:
        """Take a certificate that has changed; one that is no good changes nothing, and the log says so."""
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._latest, self.pair = self._read()
        except (OSError, ssl.SSLError) as exc:
            logger.error("the certificate has changed and is no good, so the one before serves on: %s", exc)
        else:
            logger.info("the certificate was read anew")

    def _hand_over(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Let a handshake go on with the latest certificate; OpenSSL asks whether or not the client names a host."""
        del name, context
        connection.context = self._latest

    def _read(self) -> tuple[ssl.SSLContext, tuple[bytes, bytes]]:
        """Return a context of the files, and what they say; OpenSSL reads files alone, so they are read twice."""
        pair = self._read_pair()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # without a password of its own, OpenSSL would ask for one on the terminal
        context.load_cert_chain(*self._files, password="")
        if self._read_pair() != pair:
            raise OSError("the files have changed while they were read")
        return context, pair

    def _read_pair(self) -> tuple[bytes, bytes]:
        cert, key = self._files
        return key.read_bytes(), cert.read_bytes()

    def _stamp_now(self) -> object:
        try:
            return [
                (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size) for stat in map(os.stat, self._files)
            ]
        except OSError as exc:
            return exc.errno
