"""What is sent, and where: a model's own example from its card, or bodies from files."""

import http.client
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from app.access.caller import HEADER, Caller, help_with, why_untrusted
from app.bench.errors import BenchError
from app.bench.load import Target, http_request

_ASK_TIMEOUT_S = 30.0
_MOST_QUOTED = 400
_MAX_FILE_BYTES = 256 * 2**20
_NOBODY = Caller()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where requests go.

    Attributes:
        target: Of the connections.
        path: With the query.
        netloc: The ``Host`` header.
        headers: Of every request, a key most of all.
    """

    target: Target
    path: str
    netloc: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def parse_url(url: str, caller: Caller = _NOBODY, *, model: str | None = None) -> Place:
    """Return the place that a URL names; ``/predict/{model}`` where it has no path and a model is given.

    Args:
        url: Of the service, or of a path of it.
        caller: Who asks there.
        model: As above.

    Raises:
        BenchError: It is no URL of HTTP.
        SettingsError: The caller trusts a file that holds no certificates.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise BenchError(f"{url!r} is no URL: {exc}") from exc
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BenchError(f"{url!r} is no URL of HTTP; expected http://host:port, or http://host:port/predict/model")
    is_encrypted = parts.scheme == "https"
    path = parts.path if parts.path.strip("/") else ""
    if not path and model is None:
        raise BenchError(f"{url!r} names no model; say http://host:port/predict/model, or: bench MODEL --url {url}")
    path = path or f"/predict/{model}"
    return Place(
        target=Target(
            host=parts.hostname,
            port=port or (443 if is_encrypted else 80),
            tls=caller.tls() if is_encrypted else None,
        ),
        path=f"{path}?{parts.query}" if parts.query else path,
        netloc=parts.netloc.rpartition("@")[2],
        headers=caller.headers,
    )


def ask(place: Place, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Ask once, over a connection of its own; return status and body.

    Raises:
        BenchError: Nobody answers.
    """
    target = place.target
    connection = (
        http.client.HTTPSConnection(target.host, target.port, timeout=_ASK_TIMEOUT_S, context=target.tls)
        if target.tls is not None
        else http.client.HTTPConnection(target.host, target.port, timeout=_ASK_TIMEOUT_S)
    )
    try:
        connection.request(method, path, body, {**place.headers, **headers})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as exc:
        if (why := why_untrusted(exc)) is not None:
            raise BenchError(f"{target.host}:{target.port} is not asked: {why}") from exc
        raise BenchError(f"nobody answers on {target.host}:{target.port}: {str(exc) or type(exc).__name__}") from exc
    finally:
        connection.close()


def example(place: Place) -> bytes:
    """Return the body that the model's own card offers.

    Raises:
        BenchError: There is no such model, no card, or no example on it.
    """
    path = place.path.partition("?")[0]
    model = path.removeprefix("/predict/").partition("/")[0]
    if not path.startswith("/predict/") or not model:
        raise BenchError(
            f"{path} is not this service's /predict/{{model}}, so there is no example to ask for: --body FILE"
        )
    status, answer = ask(place, "GET", f"/models/{model}", None, {})
    try:
        document = json.loads(answer)
        found = document.get("example") if status == 200 else None
    except (ValueError, AttributeError):
        document, found = None, None
    if found is None:
        said = document.get("detail") if isinstance(document, dict) else None
        raise BenchError(f"no example of {model!r} (status {status}): {said or 'use --body FILE'}{help_with(status)}")
    return json.dumps(found, separators=(",", ":")).encode()


def tuning_ignored(place: Place) -> str | None:
    """Return why the version that answers is not served as it was tuned; None where it is, or nobody tells.

    Raises:
        BenchError: Nobody answers.
    """
    path = place.path.partition("?")[0]
    model = path.removeprefix("/predict/")
    if not path.startswith("/predict/") or not model or "/" in model:
        return None
    status, answer = ask(place, "GET", f"/models/{model}", None, {})
    try:
        versions = json.loads(answer)["versions"] if status == 200 else []
        ready = [version for version in versions if version["state"] == "ready"]
        reason = max(ready, key=lambda version: int(version["version"]))["tuning_ignored"] if ready else None
    except (ValueError, KeyError, TypeError, AttributeError):  # somebody else's service
        return None
    return reason if isinstance(reason, str) else None


def read_body(path: Path) -> bytes:
    """Return what a file holds; ``-`` is the standard input.

    Raises:
        BenchError: It cannot be read, or is larger than any request may be.
    """
    try:
        if str(path) == "-":
            return sys.stdin.buffer.read()
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise BenchError(f"{path} is larger than {_MAX_FILE_BYTES} bytes")
        return path.read_bytes()
    except OSError as exc:
        raise BenchError(f"{path} cannot be read: {exc.strerror or exc}") from exc


def read_bodies(path: Path) -> list[bytes]:
    """Return the bodies of a file of JSON Lines, one a line.

    Raises:
        BenchError: It cannot be read, holds none, or a line is no JSON.
    """
    bodies: list[bytes] = []
    for number, line in enumerate(read_body(path).splitlines(), 1):
        if line.strip():
            try:
                json.loads(line)
            except ValueError as exc:
                raise BenchError(f"{path}, line {number} is no JSON: {exc}") from exc
            bodies.append(line.strip())
    if not bodies:
        raise BenchError(f"{path} holds no body; expected one JSON document a line")
    return bodies


def parse_headers(lines: Sequence[str], content_type: str | None) -> dict[str, str]:
    """Return the headers of ``Name: value`` lines.

    Raises:
        BenchError: One is none.
    """
    headers: dict[str, str] = {} if content_type is None else {"Content-Type": content_type}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or not name.strip().isascii() or "\n" in line or "\r" in line:
            raise BenchError(f"{line!r} is no header; expected 'Name: value'")
        # in one way of writing, or a key that is named here would go out beside the one of the file
        headers[HEADER if name.strip().lower() == HEADER.lower() else name.strip()] = value.strip()
    return headers


def requests_to(place: Place, bodies: Sequence[bytes], headers: Mapping[str, str]) -> list[bytes]:
    """Return whole requests, of which the first has been answered with 200; a refusal for want of room is let pass.

    Raises:
        BenchError: It was answered with something else, which the message quotes.
    """
    named = {"Content-Type": "application/json", **headers}
    status, answer = ask(place, "POST", place.path, bodies[0], named)
    if status not in (200, 503):
        said = answer[:_MOST_QUOTED].decode(errors="replace")
        raise BenchError(
            f"POST {place.path} is answered with {status}, so there is nothing to measure: {said}{help_with(status)}"
        )
    sent = {**place.headers, **headers}
    return [http_request(place.path, body, host=place.netloc, headers=sent) for body in bodies]
