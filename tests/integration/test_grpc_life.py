"""The start and the end of the door for gRPC: the extra that it needs, its port, and who is still there at the end."""

import queue
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from app.protocols.grpc.health_pb2 import HealthCheckResponse
from tests.support.bundles import dummy_bundle
from tests.support.committed import MODELS
from tests.support.grpc_calls import INFER, message, queue_rows
from tests.support.server import serve, start
from tests.support.workers import wait_for, wait_until_serving


def test_without_its_setting_nothing_of_grpc_is_imported() -> None:
    script = (
        "import sys; from pathlib import Path; from app.main import create_app; from app.settings import Settings\n"
        "from app.server import Server\n"
        f"settings = Settings(models_dir=Path({str(MODELS)!r})); Server(create_app(settings), settings)\n"
        "assert not {'grpc', 'google.protobuf'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_the_extra_the_start_ends_and_names_it(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    script = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'grpc' else find(name, *rest)\n"
        "from app.__main__ import main; sys.exit(main(['serve']))"
    )
    environ = {"ZTO_MODELS_DIR": str(tmp_path), "ZTO_PORT": "0", "ZTO_GRPC_PORT": "0", "PATH": "/usr/bin:/bin"}
    for workers in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environ | {"ZTO_WORKERS": workers}
        )
        assert done.returncode == 2, done.stderr
        assert "pip install 'zero-to-one[grpc]'" in done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken_ends_the_start_with_its_name(tmp_path: Path, workers: int) -> None:
    dummy_bundle(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = {"ZTO_MODELS_DIR": str(tmp_path), "ZTO_GRPC_PORT": str(port), "ZTO_WORKERS": str(workers)}
        with start(settings) as running:
            assert running.process.wait(60) == 2
            assert f"port {port} for gRPC (ZTO_GRPC_PORT)" in running.log()


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_lost_where_the_service_ends_under_load(tmp_path: Path, workers: int) -> None:
    dummy_bundle(tmp_path, behavior={"sleep_s": 0.002}, max_rows=2)
    data = message().SerializeToString()
    answered: list[bytes] = []
    lost: list[grpc.RpcError] = []

    def ask(channel: grpc.Channel) -> None:
        infer = channel.unary_unary(INFER)
        while True:
            try:
                answered.append(infer(data, timeout=30))
            except grpc.RpcError as exc:
                # nobody listens any more: this one was never sent
                if not isinstance(exc, grpc.Call) or "onnect" not in (exc.details() or ""):
                    lost.append(exc)
                return

    with serve(tmp_path, workers=workers, grpc_port=0) as running:
        if workers > 1:
            wait_until_serving(running, times=workers)
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [grpc.insecure_channel(running.grpc_target, options) for _ in range(4)]
        threads = [threading.Thread(target=ask, args=(channel,)) for channel in channels for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(answered) >= 300 or bool(lost), running)
        running.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        assert running.stop() == 0
        for channel in channels:
            channel.close()
        assert "worker" in running.log() or "ERROR" not in running.log()
    assert not lost
    assert len(answered) > 300


def test_who_watches_or_keeps_a_stream_open_is_sent_away_at_the_end(tmp_path: Path) -> None:
    dummy_bundle(tmp_path)
    with serve(tmp_path, grpc_port=0, drain_s=0.5) as running, grpc.insecure_channel(running.grpc_target) as channel:
        watching = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=30)
        assert HealthCheckResponse.FromString(next(watching)).status == HealthCheckResponse.SERVING
        sent: queue.Queue[bytes] = queue.Queue()
        stream = channel.stream_stream(INFER.replace("ModelInfer", "ModelStreamInfer"))(iter(sent.get, None))
        sent.put(message().SerializeToString())
        assert not pb.ModelStreamInferResponse.FromString(next(stream)).error_message
        running.process.send_signal(signal.SIGTERM)
        assert HealthCheckResponse.FromString(next(watching)).status == HealthCheckResponse.NOT_SERVING
        assert list(watching) == []
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in (caught.value.details() or "")
        assert running.process.wait(30) == 0
        sent.put(b"")  # lets the thread that sends end
        assert "leaving while" not in running.log()


def test_what_outlasts_the_end_is_told(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, behavior={"hangs_on": 254.5}, max_rows=1)
    data = message({"image": np.full((1, 2, 3), 254.5, np.float32)}).SerializeToString()
    with (
        serve(tmp_path, grpc_port=0, shutdown_s=1, run_on="thread") as running,
        grpc.insecure_channel(running.grpc_target) as channel,
    ):
        stuck = channel.unary_unary(INFER).future(data, timeout=30)
        behind = channel.unary_unary(INFER).future(data, timeout=30)
        wait_for(lambda: queue_rows(running, "dummy") > 0, running)
        running.process.send_signal(signal.SIGTERM)
        for call in (stuck, behind):
            assert call.exception() is not None
            assert call.code() is grpc.StatusCode.UNAVAILABLE
            assert "shutting down" in (call.details() or "")
        assert running.process.wait(30) == 0
