"""The peers: how each is started, and the settings that are tried; the better of them counts, load by load."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks import environments
from benchmarks.pictures import REPOSITORY
from benchmarks.servers import Server, uvicorn
from benchmarks.workloads import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to set a peer up.

    Attributes:
        name: In tables.
        max_batch: Most instances in a batch; 1 turns batching off.
        wait_ms: How long a batch may wait for more.
        arguments: Instead of the peer's.
    """

    name: str
    max_batch: int = 1
    wait_ms: float = 0.0
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One server to measure beside.

    Attributes:
        name: In tables.
        package: Whose version is told.
        environment: A folder in ``benchmarks/peers`` with a ``requirements.txt``; None where it is this one.
        arguments: Of its interpreter.
        path: Where it predicts.
        ready_path: See :class:`benchmarks.servers.Server`.
        variants: What is tried of pictures, which come in one size.
        text_variants: What is tried of texts, where a batch is padded to its longest.
        settings: The others, in words for the page.
        environ: Added to the environment.
        door: See :class:`benchmarks.servers.Server`.
    """

    name: str
    package: str
    environment: str | None
    arguments: tuple[str, ...]
    path: str
    ready_path: str | None
    variants: tuple[Variant, ...]
    text_variants: tuple[Variant, ...]
    settings: str
    environ: Mapping[str, str]
    door: str = "instances"


MOSEC_ORJSON = "mosec with orjson"
# what the bars are held against: peers as their guides write them
BAR_PEERS = ("mosec", "Triton")
TUNED_PEERS = (MOSEC_ORJSON,)

_UNBATCHED = Variant(name="unbatched")


def _batches(*sizes_and_waits: tuple[int, float]) -> tuple[Variant, ...]:
    return (
        _UNBATCHED,
        *(
            Variant(name=f"batches of {rows} at most, waiting {wait_ms:g} ms", max_batch=rows, wait_ms=wait_ms)
            for rows, wait_ms in sizes_and_waits
        ),
    )


def _fastapi(kind: Literal["async", "def"]) -> Variant:
    app = f"benchmarks.peers.plain_fastapi.server:{kind}_app"
    return Variant(name="async def" if kind == "async" else "def", arguments=uvicorn(app, "--factory"))


PEERS: tuple[Peer, ...] = (
    Peer(
        name="plain FastAPI",
        package="fastapi",
        environment=None,
        arguments=(),
        path="/predict",
        ready_path=None,
        variants=(_fastapi("async"), _fastapi("def")),
        text_variants=(_fastapi("async"), _fastapi("def")),
        settings="as its guide writes it: a typed body, one call of the model for each request, a typed answer; on "
        "uvicorn with uvloop and httptools",
        environ={},
    ),
    Peer(
        name="LitServe",
        package="litserve",
        environment="litserve",
        arguments=("-m", "benchmarks.peers.litserve.server"),
        path="/predict",
        ready_path="/health",
        variants=_batches((32, 1)),
        text_variants=_batches((8, 1)),
        settings="one API process, one worker, `fast_queue`",
        environ={},
    ),
    Peer(
        name="BentoML",
        package="bentoml",
        environment="bentoml",
        arguments=(
            "-m",
            "bentoml",
            "serve",
            "benchmarks.peers.bentoml.server:Inference",
            "--port={port}",
            "--host=127.0.0.1",
        ),
        path="/predict",
        ready_path="/readyz",
        variants=_batches((32, 0)),
        text_variants=_batches((8, 0)),
        settings="one worker; how long a batch waits is its own choice",
        environ={"DO_NOT_TRACK": "1", "BENTOML_DO_NOT_TRACK": "True"},
    ),
    Peer(
        name="MLServer",
        package="mlserver",
        environment="mlserver",
        arguments=("-m", "benchmarks.peers.mlserver.server"),
        path="/v2/models/bench/infer",
        ready_path="/v2/health/ready",
        variants=_batches((32, 1)),
        text_variants=_batches((8, 1)),
        settings="the model in the server's process (`parallel_workers` 0), no compression",
        environ={"BENCH_PORT_2": "{port_1}", "BENCH_PORT_3": "{port_2}"},
        door="v2",
    ),
    Peer(
        name="Ray Serve",
        package="ray",
        environment="ray_serve",
        arguments=("-m", "benchmarks.peers.ray_serve.server"),
        path="/predict",
        ready_path="/-/healthz",
        variants=_batches((32, 1)),
        text_variants=_batches((8, 1)),
        settings="one replica behind one proxy, `RAY_SERVE_THROUGHPUT_OPTIMIZED`, no access log, no dashboard",
        environ={"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"},
    ),
    Peer(
        name="mosec",
        package="mosec",
        environment="mosec",
        arguments=("-m", "benchmarks.peers.mosec.server"),
        path="/inference",
        ready_path="/",
        variants=_batches((32, 1), (16, 1)),
        text_variants=_batches((8, 1)),
        settings="one worker",
        environ={},
    ),
    Peer(
        name=MOSEC_ORJSON,
        package="mosec",
        environment="mosec",
        arguments=("-m", "benchmarks.peers.mosec.server"),
        path="/inference",
        ready_path="/",
        variants=_batches((16, 1)),
        text_variants=_batches((8, 1)),
        settings="the same with its JSON replaced by orjson, which its guide leaves to the user",
        environ={"BENCH_ORJSON": "1"},
    ),
    Peer(
        name="Triton",
        package="nvidia-pytriton",
        environment="triton",
        arguments=("-m", "benchmarks.peers.triton.server"),
        path="/v2/models/bench/infer",
        ready_path="/v2/health/ready",
        variants=_batches((32, 0), (32, 0.5)),
        text_variants=_batches((8, 0)),
        settings="the server binary of `nvidia-pytriton` with a Python backend, one instance on the CPU, metrics and "
        "gRPC off, 4 HTTP threads",
        environ={},
        door="v2",
    ),
)


def peer(name: str) -> Peer:
    """Return a peer by its name in tables."""
    return next(peer for peer in PEERS if peer.name == name)


def servers_of(peer: Peer, workload: Workload) -> list[Server]:
    """Return all variants of a peer for a workload; its environment has to be there."""
    executable = str(environments.interpreter(peer.environment)) if peer.environment else sys.executable
    found = []
    for variant in peer.text_variants if workload.field == "text" else peer.variants:
        environ = {
            "BENCH_BUNDLE": str(workload.bundle),
            "BENCH_MAX_BATCH": str(variant.max_batch),
            "BENCH_WAIT_MS": f"{variant.wait_ms:g}",
            "PYTHONPATH": str(REPOSITORY),
            "ORT_DISABLE_TELEMETRY": "1",  # as the service does: its wheels report to their maker otherwise
            # one core: threads beside the session's own would only be in its way
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        if peer.environment:
            environ["BENCH_PORT"] = "{port}"
        found.append(
            Server(
                name=f"{peer.name}, {variant.name}",
                executable=executable,
                arguments=variant.arguments or peer.arguments,
                environ=environ | dict(peer.environ),
                path=peer.path,
                ready_path=peer.ready_path,
                peer=peer.name,
                variant=variant.name,
                door=peer.door,
            )
        )
    return found
