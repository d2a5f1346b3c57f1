"""CORS: which pages of other origins may ask from a browser. Source: the Fetch standard, "CORS protocol".

Cookies and the like are never allowed, as nothing here looks at them: a page sends its key itself. So ``*`` is no
danger beyond what every caller can do who is no browser.
"""

from app.settings import Settings

# what the doors read; a browser asks first whether it may send them
_ALLOWED_HEADERS = (
    b"accept, accept-encoding, authorization, content-encoding, content-type, inference-header-content-length, "
    b"x-api-key, x-request-id, x-request-timeout-ms"
)
# what they answer with; a page sees no others
_EXPOSED_HEADERS = (
    b"content-encoding, inference-header-content-length, ratelimit, ratelimit-policy, retry-after, server-timing, "
    b"www-authenticate, x-model-version, x-request-id, x-tensor"
)
_ALLOWED_METHODS = b"DELETE, GET, HEAD, POST, PUT"
_MAX_AGE_S = b"600"

Headers = list[tuple[bytes, bytes]]


class Origins:
    """The origins that are allowed, and what they are answered.

    Args:
        settings: Of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self._are_all = "*" in settings.cors_origins
        self._allowed = frozenset(origin.lower().encode("ascii") for origin in settings.cors_origins)

    def __bool__(self) -> bool:
        return bool(self._allowed)

    def answer(self, origin: bytes) -> Headers:
        """Return the headers of an answer to a page of an origin; to one that is not allowed, its browser shows none.

        Args:
            origin: As the request says; empty where it says none.
        """
        if self._are_all:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSED_HEADERS)]
        if origin.lower() not in self._allowed:
            return [(b"vary", b"origin")]
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED_HEADERS),
            (b"vary", b"origin"),
        ]

    def preflight(self, origin: bytes) -> Headers | None:
        """Return the further headers that answer a browser which asks whether a page may ask; None where it may not."""
        if not self._are_all and origin.lower() not in self._allowed:
            return None
        return [
            (b"access-control-allow-methods", _ALLOWED_METHODS),
            (b"access-control-allow-headers", _ALLOWED_HEADERS),
            (b"access-control-max-age", _MAX_AGE_S),
        ]
