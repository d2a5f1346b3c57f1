"""Admission asks for keys and counts requests: the one place where both come together."""

from pathlib import Path

import pytest

from app.access.roles import Role
from app.admission import Admission, Ticket
from app.errors import BodyTooLarge, RateLimited, WrongKey
from app.metrics import Metrics
from app.settings import Settings
from tests.support.keys import make_key

ADDRESS = ("192.0.2.1", 4711)


def admit(admission: Admission, role: Role | None = Role.PREDICT, **headers: str) -> Ticket:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return admission.admit({"headers": named, "client": ADDRESS}, role)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_whoever_has_no_good_key_is_counted_by_address_and_nobody_else_for_it(file: Path) -> None:
    key = make_key(file, "app", "predict")
    metrics = Metrics()
    admission = Admission(Settings(api_keys_file=file, rate_limit="3/day"), metrics)
    refusals = [type(admit(admission, x_api_key="guess").refusal) for _ in range(5)]
    assert refusals == [WrongKey] * 3 + [RateLimited] * 2
    ticket = admit(admission, x_api_key=key)
    assert (ticket.refusal, ticket.key) == (None, "app")
    assert metrics.rate_limited == {"address": 2}


def test_probes_are_asked_for_nothing_and_never_counted(file: Path) -> None:
    make_key(file, "app", "predict")
    admission = Admission(Settings(api_keys_file=file, rate_limit="1/day"), Metrics())
    for _ in range(5):
        ticket = admit(admission, None, x_api_key="guess")
        assert (ticket.refusal, ticket.usage) == (None, b"")


def test_key_counts_before_what_is_wrong_with_the_request(file: Path) -> None:
    key = make_key(file, "app", "predict")
    admission = Admission(Settings(api_keys_file=file, max_body_bytes=1024), Metrics())
    assert isinstance(admit(admission, content_length="9999").refusal, WrongKey)
    assert isinstance(admit(admission, content_length="9999", x_api_key=key).refusal, BodyTooLarge)


def test_address_is_what_the_operator_s_header_says(file: Path) -> None:
    admission = Admission(Settings(rate_limit="1/day", client_header="X-Forwarded-For"), Metrics())
    of = [
        admit(admission, x_forwarded_for=value).refusal is None for value in ("a, 10.0.0.1", "b, 10.0.0.1", "10.0.0.2")
    ]
    assert of == [True, False, True]


def test_receipts_tell_the_same_on_either_way(file: Path) -> None:
    key = make_key(file, "app", "predict", rate="5/minute")
    admission = Admission(Settings(api_keys_file=file, cors_origins=("https://a.example",)), Metrics())
    for draining in (False, True):
        admission.is_draining = draining
        ticket = admit(admission, authorization=f"Bearer {key}", origin="https://a.example", x_request_id="one")
        headers = admission.receipts(ticket)
        assert b"".join(b"%b: %b\r\n" % header for header in headers) == admission.receipt_lines(ticket)
        names = [name for name, _ in headers]
        assert {b"x-request-id", b"ratelimit", b"ratelimit-policy", b"access-control-allow-origin"} <= set(names)
        assert (b"connection" in names) == draining


def test_keys_are_read_anew_when_it_is_time_and_that_is_counted(file: Path) -> None:
    make_key(file, "app", "predict")
    metrics = Metrics()
    admission = Admission(Settings(api_keys_file=file), metrics)
    admission.refresh()
    assert not metrics.key_reads
    key = make_key(file, "late", "predict")
    admission.refresh()
    assert admit(admission, x_api_key=key).refusal is None
    file.write_text("{")
    admission.refresh()
    assert metrics.key_reads == {"ok": 1, "broken": 1}
    assert admit(admission, x_api_key=key).refusal is None
