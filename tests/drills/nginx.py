"""nginx in front of replicas, as a child of this process: its configuration, and who is in it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import free_ports
from tests.drills.crowd import HOST

_START_TIMEOUT_S, _END_TIMEOUT_S = 10.0, 10.0
_DEBIAN = "/usr/sbin/nginx"

# No retries: what becomes of a request at the replica that got it is what its client hears. nginx without its
# commercial part has no active checks, so a file for each replica that is out stands for what a check has found; it is
# looked for at every request, and nothing has to be reloaded, which would cut idle connections of clients.
CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000;
  upstream both {{ server {host}:{first}; server {host}:{second}; keepalive 32; keepalive_requests 1000000; }}
  upstream only_first {{ server {host}:{first}; keepalive 32; keepalive_requests 1000000; }}
  upstream only_second {{ server {host}:{second}; keepalive 32; keepalive_requests 1000000; }}
  server {{
    listen {host}:{port};
    set $replicas both;
    if (-f {folder}/out/{first}) {{ set $replicas only_second; }}
    if (-f {folder}/out/{second}) {{ set $replicas only_first; }}
    location / {{
      proxy_pass http://$replicas;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_next_upstream off;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running nginx.

    Attributes:
        port: Where it listens.
        folder: Of its logs.
    """

    port: int
    folder: Path

    def put(self, replica: int, *, is_in: bool) -> None:
        """Let a replica have requests, or not."""
        file = self.folder / "out" / str(replica)
        if is_in:
            file.unlink(missing_ok=True)
        else:
            file.touch()

    def errors(self) -> list[str]:
        """Return what it has written down."""
        return (self.folder / "error.log").read_text().splitlines()


def executable() -> str | None:
    """Return nginx; None where there is none."""
    return shutil.which("nginx") or (_DEBIAN if os.access(_DEBIAN, os.X_OK) else None)


@contextlib.contextmanager
def proxy(first: int, second: int) -> Iterator[Proxy]:
    """Start nginx before two replicas on ports of the loopback, and end it afterwards.

    Raises:
        FileNotFoundError: There is none.
        TimeoutError: It does not listen.
    """
    nginx = executable()
    if nginx is None:
        raise FileNotFoundError("nginx is not installed: apt-get install nginx-light")
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # started by root, it looks for the files as somebody else
        (folder / "out").mkdir()
        (folder / "nginx.conf").write_text(
            CONFIGURATION.format(folder=folder, host=HOST, port=port, first=first, second=second)
        )
        process = subprocess.Popen([nginx, "-p", name, "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL)
        try:
            _wait(process, port)
            yield Proxy(port, folder)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    ends_at = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < ends_at and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection((HOST, port), timeout=1).close()
            return
        time.sleep(0.02)
    raise TimeoutError(f"nginx does not listen on port {port}; its status is {process.poll()}")
