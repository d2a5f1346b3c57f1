"""How many connections there may be, in all and of one address."""

import resource
from collections import Counter

from app.access.networks import network_of
from app.errors import Limit
from app.settings import Settings

# where nothing bounds them
UNBOUNDED = 2**62
# of the files that the process may open: models, sockets of its own, the log
_RESERVED_FILES = 128


class Connections:
    """Counts the connections of one process.

    Args:
        settings: Of the service.

    Attributes:
        told: Connections beyond the limits that are being told so; whoever tells them counts them.
    """

    def __init__(self, settings: Settings) -> None:
        self._most = most_of(settings)
        self._most_of_one = settings.max_connections_per_address
        self._number = 0
        self.told = 0
        self._of_networks: Counter[str] = Counter()

    @property
    def number(self) -> int:
        """How many are open."""
        return self._number

    def open(self, address: str) -> str | None:
        """Count a connection; return what there are too many of, ``all`` or ``address``, or None where it may stay."""
        self._number += 1
        if self._most_of_one is not None:
            network = network_of(address)
            self._of_networks[network] += 1
            if self._of_networks[network] > self._most_of_one:
                return "address"
        return "all" if self._number > self._most else None

    def limit_of(self, what: str) -> Limit:
        """Return the limit by what :meth:`open` has said."""
        if what == "address" and self._most_of_one is not None:
            return Limit("max_connections_per_address", self._most_of_one)
        return Limit("max_connections", self._most)

    def close(self, address: str) -> None:
        """Count one less, whether it might stay or not."""
        self._number -= 1
        if self._most_of_one is not None:
            network = network_of(address)
            self._of_networks[network] -= 1
            if not self._of_networks[network]:  # or every address that ever came would be remembered
                del self._of_networks[network]


def most_of(settings: Settings) -> int:
    """Return how many connections one process may have."""
    if settings.max_connections is not None:
        return -(-settings.max_connections // settings.workers)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UNBOUNDED if files == resource.RLIM_INFINITY else max(16, files - _RESERVED_FILES)
