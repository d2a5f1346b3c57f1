"""What a key lets its holder do, and which of it each path needs. Total: a path that nobody has written yet needs one.

``predict`` is whatever is sent with POST, ``read`` everything else, and ``admin`` the two places from where models are
loaded, switched and taken down. Probes need none, as they ask with GET and HEAD: an orchestrator has no key, and learns
no more than that a model is ready.
"""

import re
from enum import StrEnum


class Role(StrEnum):
    """What a key is good for; ``admin`` is good for all of it."""

    PREDICT = "predict"
    READ = "read"
    ADMIN = "admin"


_PROBES = frozenset(("/livez", "/startupz", "/readyz", "/ping", "/v2/health/live", "/v2/health/ready"))
# as a probe asks; a platform may be pointed at one path for both, which then predicts by POST
_METHODS_OF_PROBES = frozenset(("GET", "HEAD"))
_PROBE_OF_A_MODEL = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/ready")
_OF_OPERATORS = ("/admin/", "/v2/repository/")


class Paths:
    """Tells what role a request needs.

    Args:
        health_route: A further path that answers as a probe does.
    """

    def __init__(self, health_route: str | None = None) -> None:
        self._probes = _PROBES if health_route is None else _PROBES | {health_route}

    def role(self, method: str, path: str) -> Role | None:
        """Return the role that a request needs; None where it needs none.

        Args:
            method: As HTTP has it.
            path: Unescaped, as the router takes it.
        """
        if is_of_operators(path):
            return Role.ADMIN
        if method in _METHODS_OF_PROBES and self._is_probe(path):
            return None
        return Role.PREDICT if method == "POST" else Role.READ

    def _is_probe(self, path: str) -> bool:
        return path in self._probes or (path.endswith("/ready") and _PROBE_OF_A_MODEL.fullmatch(path) is not None)


def is_of_operators(path: str) -> bool:
    """Tell whether a path is one from where models are loaded, switched and taken down."""
    return path.startswith(_OF_OPERATORS) or path in ("/admin", "/v2/repository")
