"""What the drills are judged by is itself held against known outcomes: a server that answers as it is told to."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.drills.books import Books, Failure
from tests.drills.crowd import Crowd, Manner, Question

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
FAREWELL = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"
ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@contextmanager
def scripted(connections: Sequence[Sequence[bytes]]) -> Iterator[int]:
    """Serve so many connections, one after the other, each with these answers, and close each then; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for number, answers in enumerate(connections, 1):
                connection, _ = listener.accept()
                if number == len(connections):
                    listener.close()  # whoever comes later is refused
                with connection:
                    for answer in answers:
                        if not connection.recv(4096):
                            return
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join(10)


def asked(*connections: Sequence[bytes], check: str = "") -> Books:
    question = Question(data=ASK, check=lambda books, head, body: check)
    with (
        scripted(connections) as port,
        Crowd(port, [question], Manner(clients=1, ends_when_refused=True)) as crowd,
    ):
        return crowd.wait()


def test_answers_are_counted_by_status_and_a_refused_connection_is_no_request() -> None:
    books = asked([OK, OK, BUSY, FAREWELL])
    assert (books.sent, books.answered, books.failed, books.refused) == (4, 3, 1, 1)
    assert books.statuses == {"200": 3, "503": 1}
    assert books.is_balanced
    assert books.told() == "1 503"


def test_an_answer_that_is_cut_off_is_lost_and_the_client_goes_on() -> None:
    books = asked([OK, CUT], [FAREWELL])
    assert (books.sent, books.answered, len(books.losses)) == (3, 2, 1)
    assert books.losses[0].what == "answer cut off"
    assert books.is_balanced


def test_a_request_on_a_connection_that_ends_without_an_answer_is_lost() -> None:
    books = asked([OK, b""], [FAREWELL])
    assert (books.sent, books.answered, books.failed) == (3, 2, 1)
    assert books.losses[0].what in ("connection closed", "connection reset")


def test_an_answer_of_another_content_is_a_failure_although_its_status_is_200() -> None:
    books = asked([OK, FAREWELL], check="another number")
    assert (books.answered, books.failed) == (2, 2)
    assert books.wrong == {"another number": 2}
    assert books.is_balanced


def test_two_answers_to_one_request_are_none() -> None:
    books = asked([OK + OK], [FAREWELL])
    assert books.losses[0].what == "more than one answer"


def test_books_that_do_not_come_out_say_so() -> None:
    books = Books(sent=2)
    books.statuses["200"] += 1
    assert not books.is_balanced
    books.failures.append(Failure(1, "connection reset", is_lost=True))
    assert books.is_balanced


def test_books_are_added() -> None:
    one, other = asked([OK, FAREWELL]), asked([OK, BUSY, FAREWELL])
    one.add(other)
    assert (one.sent, one.answered, one.failed, one.refused, one.latency.count) == (5, 4, 1, 2, 4)
    assert one.is_balanced
