"""The admin calls over HTTP, with the standard library alone."""

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from app.admin.errors import BadUse, Refused

_PORTS = {"http": 80, "https": 443}
# answers are short; what is longer is none of this service's
_MAX_BYTES = 16 * 2**20


class Client:
    """A running service, from an operator's side.

    Args:
        url: Of the service: scheme, host and port.
        key: Sent as a bearer token; None to send none.
        timeout_s: That the service may take for a call.

    Raises:
        BadUse: It is none, or the key is none.
    """

    def __init__(self, url: str, key: str | None, *, timeout_s: float) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise BadUse(f"{url!r} is no URL: {exc}") from exc
        if parts.scheme not in _PORTS or not parts.hostname:
            raise BadUse(f"{url!r} is no URL of a service; expected http://HOST:PORT or https://HOST:PORT")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise BadUse("the key holds what no key does: it is one line of letters, digits and signs of ASCII")
        self._is_tls = parts.scheme == "https"
        self._host, self._port = parts.hostname, port or _PORTS[parts.scheme]
        self._path = parts.path.rstrip("/")
        self._key = key
        self._timeout_s = timeout_s

    def models(self) -> list[dict[str, Any]]:
        """Return how every model stands.

        Raises:
            Refused: It is not told.
        """
        return list(self._call("GET", "/admin/models", None, has="models")["models"])

    def call(self, method: str, name: str, action: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Make one call about a model, and return its answer.

        Args:
            method: Of HTTP.
            name: Of the model.
            action: What follows its name in the path; empty for the model itself.
            body: None for none.

        Raises:
            Refused: It was not done; the message is the service's.
        """
        return self._call(method, f"/admin/models/{quote(name, safe='')}{action and '/' + action}", body, has="policy")

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None, *, has: str) -> dict[str, Any]:
        headers = {"X-Request-Timeout-Ms": str(round(self._timeout_s * 1e3))}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        connect = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
        # the service gives up first, and says what goes on
        connection = connect(self._host, self._port, timeout=self._timeout_s + 5.0)
        try:
            connection.request(method, self._path + path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            data = response.read(_MAX_BYTES)
        except (OSError, http.client.HTTPException, UnicodeError) as exc:  # the last of a host that no name can be
            raise Refused(f"no answer from {self._host}:{self._port}: {exc}") from exc
        finally:
            connection.close()
        try:
            document = json.loads(data)
        except ValueError as exc:
            raise Refused(f"{self._host}:{self._port} answers {response.status}, and nothing of ours") from exc
        if response.status != http.HTTPStatus.OK or not isinstance(document, dict):
            told = document.get("detail") if isinstance(document, dict) else None
            raise Refused(f"{response.status}: {told or response.reason}")
        if has not in document:
            raise Refused(f"{self._host}:{self._port} answers {response.status}, and nothing of ours")
        return document
