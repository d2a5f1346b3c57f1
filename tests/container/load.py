"""Clients that never stop asking: each request is answered whole, or its connection was never taken.

Runs inside a container beside the service, where no proxy of the engine takes connections in its name; so nothing but
the standard library. ``load.py HOST PORT PATH`` reads the body of its requests from stdin, prints ``running`` when
every client has had an answer, goes on until the port is closed, and prints what became of the requests as JSON.
"""

import http.client
import json
import socket
import sys
import threading
import time
from collections import Counter

KEPT_CLIENTS, FRESH_CLIENTS = 6, 2
AT_MOST_S = 60.0


class Client(threading.Thread):
    """Asks until it is refused a connection.

    A kept client leaves its connection only after ``Connection: close``; a fresh one after every answer.
    """

    def __init__(self, address: tuple[str, int], path: str, body: bytes, *, is_kept: bool) -> None:
        super().__init__(daemon=True)
        self.outcomes: Counter[str] = Counter()
        self.has_begun = threading.Event()
        self._address, self._path, self._body, self._is_kept = address, path, body, is_kept

    def run(self) -> None:
        try:
            self._ask_until_refused()
        finally:
            self.has_begun.set()

    def _ask_until_refused(self) -> None:
        end = time.monotonic() + AT_MOST_S
        connection: http.client.HTTPConnection | None = None
        while time.monotonic() < end:
            if connection is None:
                connection = http.client.HTTPConnection(*self._address, timeout=10)
                try:
                    connection.connect()
                except OSError:
                    self.outcomes["refused"] += 1
                    return
            try:
                connection.request("POST", self._path, self._body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as exc:
                self.outcomes[f"dropped, {type(exc).__name__}"] += 1
                response = None
            else:
                self.outcomes[str(response.status)] += 1
                self.has_begun.set()
            if response is None or response.will_close or not self._is_kept:
                self.outcomes["told to close"] += response is not None and response.will_close
                connection.close()
                connection = None
        self.outcomes["never refused"] += 1


def main() -> None:
    host, port, path = sys.argv[1:]
    address = (socket.gethostbyname(host), int(port))  # once: the name goes with the service
    body = sys.stdin.buffer.read()
    kinds = [True] * KEPT_CLIENTS + [False] * FRESH_CLIENTS
    clients = [Client(address, path, body, is_kept=is_kept) for is_kept in kinds]
    for client in clients:
        client.start()
    for client in clients:
        client.has_begun.wait()
    sys.stdout.write("running\n")
    sys.stdout.flush()
    for client in clients:
        client.join()
    total: Counter[str] = Counter()
    for client in clients:
        total += client.outcomes
    sys.stdout.write(json.dumps(total) + "\n")


if __name__ == "__main__":
    main()
