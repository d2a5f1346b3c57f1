"""Triton from the wheel of ``nvidia-pytriton``: its server with a Python backend, without what that package adds.

The backend's stub embeds a Python, so the one for this version is copied beside the backend; the rest is read where
the wheel has it.

Environment:
    BENCH_GRPC_PORT: Where to answer gRPC too, on the loopback; off without it.
"""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from benchmarks.peers import common

GRPC_PORT = "BENCH_GRPC_PORT"
MODELS = {"image": "TYPE_FP32 28 28", "text": "TYPE_STRING 1"}
OUTPUTS = {
    "probabilities": [("label", "TYPE_STRING", "1"), ("probabilities", "TYPE_FP32", "-1")],
    "error": [("error", "TYPE_FP32", "1"), ("anomaly", "TYPE_BOOL", "1"), ("code", "TYPE_FP32", "-1")],
}


def config(model: common.Model) -> str:
    """Return ``config.pbtxt``: one instance on the CPU; where batches are asked for, dynamic ones."""
    field = model.field
    kind, *shape = MODELS[field].split()
    outputs = [(name, "TYPE_FP32", "-1") for name in model.outputs] if model.is_bare else OUTPUTS[model.outputs[0]]
    lines = [
        'name: "bench"',
        'backend: "python"',
        # batches or not, tensors have the batch as first axis
        f"max_batch_size: {common.max_batch()}",
        f'input [{{ name: "{field}" data_type: {kind} dims: [{", ".join(shape)}] }}]',
        *(f'output [{{ name: "{name}" data_type: {kind} dims: [{dims}] }}]' for name, kind, dims in outputs),
        "instance_group [{ kind: KIND_CPU count: 1 }]",
    ]
    if common.max_batch() > 1:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {round(common.wait_ms() * 1e3)} }}")
    return "\n".join(lines) + "\n"


def lay_out(folder: Path, triton: Path, model: common.Model) -> None:
    """Write the repository of one model, and the backend with the stub of this Python."""
    version = folder / "models" / "bench" / "1"
    version.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("model.py"), version)
    (version.parent / "config.pbtxt").write_text(config(model))
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    stub = triton / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}"
    if not stub.is_dir():
        raise SystemExit(f"error: this Triton has no stub for Python {stub.name}")
    # copies: libraries are found beside the file that a link leads to
    for file in [*(triton / "backends" / "python").iterdir(), stub / "triton_python_backend_stub"]:
        if file.is_file():
            shutil.copy(file, backend)


def grpc_arguments() -> list[str]:
    """Return the arguments of the server that turn gRPC on, or off."""
    port = os.environ.get(GRPC_PORT)
    return ["--grpc-address=127.0.0.1", f"--grpc-port={port}"] if port else ["--allow-grpc=false"]


def serve() -> int:
    """Start Triton and wait for its end; end it where this process is told to."""
    triton = Path(sysconfig.get_path("purelib")) / "pytriton" / "tritonserver"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(folder, triton, common.from_environ())
        # the stub is no longer where its own paths lead to
        libraries = [str(triton.parents[1] / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR") or ""]
        process = subprocess.Popen(
            [
                str(triton / "bin" / "tritonserver"),
                f"--model-repository={folder / 'models'}",
                f"--backend-directory={folder / 'backends'}",
                "--http-address=127.0.0.1",
                f"--http-port={common.port()}",
                "--http-thread-count=4",
                *grpc_arguments(),
                "--allow-metrics=false",
                "--log-info=false",
                "--disable-auto-complete-config",
                "--exit-timeout-secs=5",
            ],
            env=os.environ
            | {
                "LD_LIBRARY_PATH": os.pathsep.join(libraries),
                "BENCH_MODULES": os.pathsep.join([os.getcwd(), sysconfig.get_path("purelib")]),
            },
        )
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        return process.wait()


if __name__ == "__main__":
    sys.exit(serve())
