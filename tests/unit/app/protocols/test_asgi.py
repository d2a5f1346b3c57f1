import asyncio
import logging
from typing import Any

import pytest

from app.admission import Admission, Ticket
from app.errors import Overloaded
from app.metrics import Metrics
from app.protocols import problem
from app.protocols.answers import Reply
from app.protocols.asgi import as_response, hung_up, refuse, send_reply
from app.settings import Settings

logger = logging.getLogger("app.test")
TICKET = Ticket(request_id=b"order-66", received_at=0.0, deadline=30.0)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def admission(metrics: Metrics) -> Admission:
    return Admission(Settings(), metrics)


def refused(error: Exception | asyncio.CancelledError, admission: Admission) -> Reply:
    return refuse(error, TICKET, admission, problem.render, logger=logger)


def test_an_error_of_the_domain_is_rendered_and_counted_and_not_logged(
    admission: Admission, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    reply = refused(Overloaded("the queue is full", retry_after_s=2.5), admission)
    assert reply.status == 503
    assert (b"retry-after", b"3") in reply.headers
    assert metrics.refusals == {"overloaded": 1}
    assert not caplog.records


def test_a_defect_is_logged_with_its_story_and_told_without_it(
    admission: Admission, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    reply = refused(ZeroDivisionError("by a number of ours"), admission)
    assert reply.status == 500
    assert b"by a number of ours" not in reply.body
    assert metrics.refusals == {"ZeroDivisionError": 1}
    (record,) = caplog.records
    assert record.getMessage() == "request order-66 failed"
    assert record.exc_info is not None


def test_a_canceled_request_is_answered_only_where_the_service_ends(admission: Admission, metrics: Metrics) -> None:
    with pytest.raises(asyncio.CancelledError):
        refused(asyncio.CancelledError(), admission)
    assert not metrics.refusals
    admission.is_draining = True
    reply = refused(asyncio.CancelledError(), admission)
    assert reply.status == 503
    assert b"shutting down" in reply.body


def test_a_reply_is_sent_whole_with_the_receipts_behind_its_own_headers(admission: Admission) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    reply = Reply(200, [(b"content-type", b"text/plain")], b"good")
    asyncio.run(send_reply(reply, admission.receipts(TICKET), send))
    start, body = sent
    assert start["headers"] == [(b"content-type", b"text/plain"), (b"x-request-id", b"order-66")]
    assert (start["status"], body["body"]) == (200, b"good")
    assert reply.headers == [(b"content-type", b"text/plain")]  # a reply may be kept, and sent again
    assert as_response(reply).raw_headers == reply.headers


def test_a_caller_has_hung_up_when_the_server_says_so_and_not_when_more_comes() -> None:
    messages = [{"type": "http.request"}, {"type": "http.request"}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, str]:
        return messages.pop(0)

    asyncio.run(hung_up(receive))
    assert not messages
