"""What is tried again, after how long, and when it is not."""

from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.python.tests.support.callers import AsyncCaller, Caller, Clock, Failing, SyncCaller
from clients.python.tests.support.scripted import CARD, HANG_UP, Asked, Reply, echo, in_turn, problem, scripted
from zero_to_one_client import (
    BadRequest,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    InvalidInput,
    InvalidRequest,
    NotFound,
    Options,
    Problem,
    RateLimited,
    RetryPolicy,
    ServiceFailed,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from zero_to_one_client.flows import HttpResponse
from zero_to_one_client.retries import Deadline, timeout_ms
from zero_to_one_client.wire import problem_of, retry_after_s

ROWS = [{"x": 3.0}]


def overloaded(retry_after_s: float | None) -> Unavailable:
    return Unavailable(Problem(status=503, code="overloaded", title="", detail="", retry_after_s=retry_after_s))


@given(st.floats(0, 1), st.floats(0, 3600), st.integers(1, 4))
def test_a_pause_is_never_shorter_than_the_service_asks(chance: float, asked_s: float, tries: int) -> None:
    pause_s = RetryPolicy().pause_s(overloaded(asked_s), tries, lambda: chance)
    assert pause_s is not None
    assert asked_s <= pause_s <= asked_s * 1.25


@given(st.floats(0, 1), st.integers(1, 2000))
def test_a_pause_of_its_own_is_anything_up_to_twice_the_one_before(chance: float, tries: int) -> None:
    policy = RetryPolicy(max_tries=2001, base_s=0.5, max_pause_s=8)
    assert policy.pause_s(overloaded(None), tries, lambda: chance) == chance * min(8, 0.5 * 2 ** min(tries - 1, 64))


@pytest.mark.parametrize("wrong", [{"max_tries": 0}, {"base_s": -1}, {"jitter": -0.1}, {"max_pause_s": -1}])
def test_a_policy_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        RetryPolicy(**wrong)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("Thu, 01 Jan 1970 00:16:45 GMT", 5.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:16:45", 5.0),
        ("soon", None),
        ("-3", None),
        ("\u0663", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str, seconds: float | None) -> None:
    assert retry_after_s({"retry-after": value}, lambda: 1000.0) == seconds
    assert retry_after_s({}, lambda: 1000.0) is None


def test_what_the_service_asks_for_is_waited_for_and_then_answered(caller: Caller) -> None:
    script = in_turn(
        problem(503, "overloaded", retry_after="2"), problem(503, "model_not_ready", retry_after="4"), echo
    )
    with scripted(script) as server:
        answer = caller.client(server.url).predict("echo", ROWS)
    assert answer[0].value == 3.0
    assert answer.receipts[0].tries == 3
    assert caller.clock.slept_s == [2 * 1.125, 4 * 1.125]


def test_without_retry_after_pauses_double(caller: Caller) -> None:
    with scripted(in_turn(Reply(status=502), Reply(status=503), Reply(status=503), echo)) as server:
        caller.client(server.url).predict("echo", ROWS)
    assert caller.clock.slept_s == [0.05, 0.1, 0.2]


def test_a_connection_that_is_lost_is_made_again(caller: Caller) -> None:
    with scripted(in_turn(HANG_UP, HANG_UP, echo)) as server:
        answer = caller.client(server.url).predict("echo", ROWS)
    assert answer.receipts[0].tries == 3
    assert [asked.body for asked in server.asked] == [b'{"instances":[{"features":{"x":3.0}}]}'] * 3


def test_a_service_that_is_not_there_is_asked_as_often_as_allowed(caller: Caller) -> None:
    with scripted(echo) as server:
        url = server.url  # free again behind the block
    client = caller.client(url, Options(retry=RetryPolicy(max_tries=3)))
    with pytest.raises(ConnectFailed):
        client.predict("echo", ROWS)
    assert len(caller.clock.slept_s) == 2


def test_after_the_last_try_the_last_error_is_raised(caller: Caller) -> None:
    with scripted(in_turn(HANG_UP, problem(503, "overloaded", retry_after="1"))) as server:
        client = caller.client(server.url, Options(retry=RetryPolicy(max_tries=2)))
        with pytest.raises(Unavailable) as raised:
            client.predict("echo", ROWS)
    assert (raised.value.code, raised.value.retry_after_s, raised.value.request_id) == ("overloaded", 1.0, "id-2")
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadRequest),
        (401, Unauthorized),
        (403, Unauthorized),
        (404, NotFound),
        (405, BadRequest),
        (413, TooLarge),
        (415, BadRequest),
        (422, InvalidInput),
        (429, RateLimited),
        (500, ServiceFailed),
        (504, DeadlineExceeded),
    ],
)
def test_what_would_be_answered_the_same_is_not_tried_again(
    caller: Caller, status: int, error: type[ClientError]
) -> None:
    with scripted(lambda _: problem(status, "no", retry_after="1")) as server:
        client = caller.client(server.url)
        with pytest.raises(error) as raised:
            client.predict("echo", ROWS)
    assert type(raised.value) is error
    assert raised.value.problem is not None
    assert raised.value.problem.status == status
    assert len(server.asked) == 1
    assert not caller.clock.slept_s


def test_a_pause_that_would_pass_the_deadline_is_not_begun(caller: Caller) -> None:
    with scripted(lambda _: problem(503, "overloaded", retry_after="10")) as server:
        client = caller.client(server.url)
        with pytest.raises(Unavailable):
            client.predict("echo", ROWS, timeout_s=9)
    assert len(server.asked) == 1
    assert not caller.clock.slept_s


def test_every_try_tells_the_service_what_is_left(caller: Caller) -> None:
    def slow(asked: Asked) -> Reply:
        caller.clock.now_s += 1.5
        return problem(503, "overloaded", retry_after="2")

    with scripted(in_turn(slow, slow, echo)) as server:
        caller.client(server.url, Options(timeout_s=20)).predict("echo", ROWS)
    told = [asked.headers["x-request-timeout-ms"] for asked in server.asked]
    assert told == ["20000", "16250", "12500"]


@given(st.floats(1e-9, 1e9))
def test_what_is_told_is_what_the_service_takes(left_s: float) -> None:
    assert 1 <= int(timeout_ms(left_s)) <= 3_600_000


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan")])
def test_a_timeout_that_is_none_is_refused(caller: Caller, timeout_s: float) -> None:
    with pytest.raises(InvalidRequest):
        caller.client("http://127.0.0.1:9").models(timeout_s=timeout_s)


def test_a_timeout_may_be_longer_than_a_socket_can_count(caller: Caller) -> None:
    with scripted(lambda _: Reply(document={"models": []})) as server:
        assert caller.client(server.url).models(timeout_s=1e300) == ()


def test_a_deadline_ends() -> None:
    now_s = [5.0]
    deadline = Deadline.after(2, lambda: now_s[0])
    assert deadline.left_s() == 2
    assert deadline.allows(1.9)
    assert not deadline.allows(2)
    now_s[0] = 7.0
    with pytest.raises(DeadlineExceeded, match="within 2 s"):
        deadline.left_s()


def test_an_answer_that_comes_in_time_and_ends_too_late_is_none() -> None:
    """httpx bounds the wait for each part of an answer alone."""
    clock = Clock()

    def late(asked: Asked) -> Reply:
        clock.now_s += 3
        return echo(asked)

    too_late = pytest.raises(DeadlineExceeded, match="no whole answer")
    with scripted(late) as server, SyncCaller(clock) as caller, too_late:
        caller.client(server.url).predict("echo", ROWS, timeout_s=2)


def test_a_transport_that_never_returns_ends_with_the_deadline() -> None:
    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await anyio.sleep_forever()
            raise AssertionError

    with AsyncCaller(Clock()) as caller, pytest.raises(DeadlineExceeded):
        caller.client("http://localhost", transport_of_http=Silent()).models(timeout_s=0.01)


def test_a_timeout_of_the_transport_is_the_deadline(caller: Caller) -> None:
    failing = Failing(httpx.ReadTimeout("too slow"))
    with pytest.raises(DeadlineExceeded, match="ReadTimeout"):
        caller.client("http://localhost", transport_of_http=failing).models()
    assert failing.asked == 1


@pytest.mark.parametrize(("error", "kind"), [(httpx.WriteError, ConnectionLost), (httpx.ConnectTimeout, ConnectFailed)])
def test_what_breaks_on_the_way_is_tried_again(caller: Caller, error: Any, kind: type[ClientError]) -> None:
    failing = Failing(error("no"))
    with pytest.raises(kind):
        caller.client("http://localhost", transport_of_http=failing).models()
    assert failing.asked == RetryPolicy().max_tries


def test_a_redirection_is_no_answer(caller: Caller) -> None:
    script = in_turn(Reply(status=307, headers={"location": "/elsewhere"}))
    with scripted(script) as server, pytest.raises(ClientError, match="status 307"):
        caller.client(server.url).models()
    assert len(server.asked) == 1


def test_headers_without_a_phrase_are_read() -> None:
    told = problem_of(HttpResponse(status=599, headers={}, body=b""), lambda: 0.0)
    assert (told.code, told.detail) == ("status_599", "Status 599")


def test_one_connection_is_used_for_one_call_after_the_other(caller: Caller) -> None:
    with scripted(echo) as server:
        client = caller.client(server.url)
        for _ in range(3):
            client.predict("echo", ROWS)
    assert len(server.asked) == 3
    assert len(server.connections) == 1


def test_no_more_connections_are_made_than_allowed(caller: Caller) -> None:
    with scripted(echo, CARD | {"limits": {**CARD["limits"], "max_instances": 1}}) as server:
        answer = caller.client(server.url, Options(max_connections=4, max_parallel=4)).predict("echo", ROWS * 30)
    assert len(answer) == 30
    assert len(server.connections) <= 4


@pytest.mark.parametrize("wrong", [{"max_parallel": 0}, {"max_connections": 0}, {"max_parallel": 17}])
def test_more_parts_at_once_than_connections_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest):
        Options(**wrong)  # type: ignore[arg-type]


def test_the_key_and_the_name_of_the_client_go_with_every_request(caller: Caller) -> None:
    with scripted(echo) as server:
        client = caller.client(server.url, api_key="secret", headers={"x-team": "blue"})
        client.predict("echo", ROWS)
    (asked,) = server.asked
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.headers["x-team"] == "blue"
    assert asked.headers["user-agent"].startswith("zero-to-one-client/")
    assert asked.headers["accept-encoding"] == "identity"
