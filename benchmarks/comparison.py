"""One model behind all servers: what was found, load by load, and which variant of a peer counts."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks import environments, floors, recipes, rounds, servers, workloads
from benchmarks.findings import Setting
from benchmarks.floors import Step
from benchmarks.recipes import Peer
from benchmarks.samples import Sample, Visit, merit, middle
from benchmarks.servers import Server, pinned
from benchmarks.workloads import Workload

FLOOR_CLIENTS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What one workload found.

    Attributes:
        model: What was asked.
        title: Of its section.
        clients: Numbers of clients.
        visits: By the server's name.
        variants: Names of the servers that stand for a peer, by its name; this service and the floor are not among
            them.
        absent: Why a server could not be measured, or not to the end, by its name.
        floors: Steps of a request inside one process.
    """

    model: str
    title: str
    clients: tuple[int, ...]
    visits: dict[str, list[Visit]]
    variants: dict[str, tuple[str, ...]]
    absent: dict[str, str]
    floors: tuple[Step, ...]

    @property
    def other_cores(self) -> float:
        """The most cores that other work kept busy during any visit."""
        return max((visit.other_cores for visits in self.visits.values() for visit in visits), default=0.0)

    @property
    def generator_busy(self) -> float:
        """The most of its core that the load generator took."""
        return max(
            (
                sample.generator_busy
                for visits in self.visits.values()
                for one in visits
                for sample in one.samples.values()
            ),
            default=0.0,
        )

    def best(self, peer: str, clients: int) -> str | None:
        """Return the variant of a peer that is better than its others under a load; None where none was measured."""
        measured = [name for name in self.variants[peer] if self.samples(name, clients)]
        return max(measured, key=lambda name: merit(self.visits[name], clients), default=None)

    def samples(self, name: str, clients: int) -> list[Sample]:
        """Return what was measured of a server under a load, round by round."""
        return [visit.samples[clients] for visit in self.visits.get(name, ()) if clients in visit.samples]

    def figure(self, name: str, clients: int, key: str) -> float:
        """Return the median of a figure of a server under a load; NaN where it was not measured."""
        if not self.samples(name, clients):
            return float("nan")
        return middle(self.visits[name], clients, lambda sample: float(getattr(sample, key)))

    def of_peers(self, clients: int, key: str, peers: Sequence[str] | None = None) -> dict[str, float]:
        """Return a figure of each peer that answered under a load, of its better variant.

        Args:
            clients: How many.
            key: Of :class:`benchmarks.samples.Sample`.
            peers: Which; those as their guides write them by default.
        """
        asked = [peer for peer in self.variants if peer not in recipes.TUNED_PEERS] if peers is None else peers
        best = {peer: self.best(peer, clients) for peer in asked if peer in self.variants}
        return {
            peer: self.figure(name, clients, key)
            for peer, name in best.items()
            if name is not None and merit(self.visits[name], clients) > 0
        }

    def floor_us(self) -> float:
        """Return the least that a request can cost with these parts: uvicorn, reading, the model, writing."""
        server = self.figure(servers.FLOOR_NAME, FLOOR_CLIENTS, "server_us")
        return server + sum(step.us for step in self.floors if step.counts)


def measure(workload: Workload, peers: Mapping[str, Peer], refused: Mapping[str, str], setting: Setting) -> Comparison:
    """Measure a workload.

    Args:
        workload: What is asked.
        peers: By name; their environments are there.
        refused: Peers that could not be installed, and why.
        setting: How often and how long.
    """
    contenders: list[Server] = [servers.service(workload.name, workloads.MODELS_DIR, query=workload.query)]
    if workload.name == "cnn":
        contenders.append(servers.service(workload.name, workloads.MODELS_DIR, is_raw=True))
    families = {name: recipes.servers_of(peer, workload) for name, peer in peers.items()}
    contenders += [server for family in families.values() for server in family]
    contenders.append(servers.floor_read())
    with pinned(setting.server_core):
        steps, _ = setting.patience.measure(lambda: floors.measure(workload, seconds=min(1.0, setting.seconds)))
    found = rounds.run(contenders, workload, setting)
    return Comparison(
        model=workload.name,
        title=workload.title,
        clients=workload.clients,
        visits=found.visits,
        variants={name: tuple(server.name for server in family) for name, family in families.items()},
        absent={**refused, **found.absent},
        floors=tuple(steps),
    )


def prepare(names: Sequence[str]) -> tuple[dict[str, Peer], dict[str, str]]:
    """Make the environments of peers; return those that are there, and why the others are not."""
    ready: dict[str, Peer] = {}
    refused: dict[str, str] = {}
    for peer in (recipes.peer(name) for name in names):
        try:
            if peer.environment is not None:
                if not environments.is_made(peer.environment):
                    sys.stderr.write(f"making the environment of {peer.name}\n")
                environments.make(peer.environment)
            ready[peer.name] = peer
        except environments.NotInstalled as exc:
            refused[peer.name] = f"could not be installed: {exc}"
    return ready, refused
