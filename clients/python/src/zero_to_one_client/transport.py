"""The border to httpx: requests go out, answers come in, and nothing of httpx's gets past, errors least of all."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ssl import SSLContext
from typing import Any

import httpx

from zero_to_one_client import errors, flows
from zero_to_one_client.errors import ClientError, InvalidRequest
from zero_to_one_client.flows import HttpRequest, HttpResponse

# idle seconds after which a connection is not used again; fewer than the service's 75 by default, so that it is not the
# one to close it under a request
_KEEP_ALIVE_S = 60.0
# the clock of a socket holds no more than so many seconds
_LONGEST_S = 1e8
# httpx asks for compressed answers by itself; answers are short or numbers, and cost more to compress than to send. Who
# sits behind a slow line asks for gzip with the headers of the client
_HEADERS: Mapping[str, str] = {"accept": "*/*", "accept-encoding": "identity"}

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")

# of httpx's tree, what can come out of sending a request and reading its answer; a test holds it against the whole tree
TRANSLATIONS: Mapping[type[Exception], type[ClientError]] = {
    httpx.ConnectTimeout: errors.ConnectFailed,
    httpx.PoolTimeout: errors.DeadlineExceeded,
    httpx.ReadTimeout: errors.DeadlineExceeded,
    httpx.WriteTimeout: errors.DeadlineExceeded,
    httpx.TimeoutException: errors.DeadlineExceeded,
    httpx.ConnectError: errors.ConnectFailed,
    httpx.ProxyError: errors.ConnectFailed,
    httpx.ReadError: errors.ConnectionLost,
    httpx.WriteError: errors.ConnectionLost,
    httpx.CloseError: errors.ConnectionLost,
    httpx.NetworkError: errors.ConnectionLost,
    httpx.RemoteProtocolError: errors.ConnectionLost,  # most of all: closed while the answer was awaited
    httpx.LocalProtocolError: errors.BrokenProtocol,
    httpx.ProtocolError: errors.BrokenProtocol,
    httpx.UnsupportedProtocol: errors.BrokenProtocol,
    httpx.DecodingError: errors.BrokenProtocol,
    httpx.TooManyRedirects: errors.BrokenProtocol,
    httpx.TransportError: errors.TransportError,
    httpx.RequestError: errors.TransportError,
    httpx.HTTPError: errors.TransportError,
    httpx.InvalidURL: errors.InvalidRequest,
}
# raised by what is never called here, or by a defect of ours
NOT_RAISED: frozenset[type[Exception]] = frozenset(
    {
        httpx.HTTPStatusError,
        httpx.CookieConflict,
        httpx.StreamError,
        httpx.StreamConsumed,
        httpx.StreamClosed,
        httpx.ResponseNotRead,
        httpx.RequestNotRead,
    }
)


@contextmanager
def translated(timeout_s: float) -> Iterator[None]:
    """Turn the errors of httpx into those of the client.

    Args:
        timeout_s: What the request had, for the message.
    """
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        kind = next(TRANSLATIONS[known] for known in type(exc).__mro__ if known in TRANSLATIONS)
        if kind is errors.DeadlineExceeded:
            raise errors.DeadlineExceeded(f"no answer within {timeout_s:g} s ({type(exc).__name__})") from exc
        raise kind(f"{type(exc).__name__}: {exc}") from exc


def address(url: str) -> str:
    """Return the address of a service, held against what is one.

    Raises:
        InvalidRequest: It is none.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as exc:
        raise InvalidRequest(f"{url!r} is no address: {exc}") from exc
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
        raise InvalidRequest(f"expected an address such as http://localhost:8000, found {url!r}")
    return url


def settings(
    url: str,
    *,
    max_connections: int,
    api_key: str | None,
    headers: Mapping[str, str],
    verify: SSLContext | None,
    version: str,
) -> dict[str, Any]:
    """Return what both clients of httpx are made with.

    Raises:
        InvalidRequest: No such address, key or header can be.
    """
    key = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    if api_key is not None and not (api_key and _HEADER_VALUE.fullmatch(api_key)):
        raise InvalidRequest("api_key: expected printable ASCII; no header holds anything else")  # it is a secret
    for name, value in headers.items():
        if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            raise InvalidRequest(f"headers: no header can be {name!r} with the value that is given")
    return {
        "base_url": address(url),
        "headers": {**_HEADERS} | {"user-agent": f"zero-to-one-client/{version}"} | key | dict(headers),
        "limits": httpx.Limits(
            max_connections=max_connections, max_keepalive_connections=max_connections, keepalive_expiry=_KEEP_ALIVE_S
        ),
        "follow_redirects": False,
        "verify": True if verify is None else verify,
    }


def build(client: "httpx.Client | httpx.AsyncClient", effect: flows.Send, connect_timeout_s: float) -> httpx.Request:
    """Return a request as httpx has it."""
    request: HttpRequest = effect.request
    left_s = min(effect.timeout_s, _LONGEST_S)
    return client.build_request(
        request.method,
        request.path,
        params=dict(request.query) or None,
        headers=dict(request.headers),
        content=request.body or None,
        timeout=httpx.Timeout(left_s, connect=min(left_s, connect_timeout_s)),
    )


def received(response: httpx.Response, body: bytes) -> HttpResponse:
    """Return an answer without httpx."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return HttpResponse(status=response.status_code, headers=headers, body=body)
