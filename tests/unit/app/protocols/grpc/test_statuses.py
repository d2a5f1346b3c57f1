import pytest
from grpc import StatusCode

from app import errors
from app.admission import Ticket
from app.errors import Fault, InvalidInput, Overloaded, ServingError
from app.protocols.grpc.statuses import ERROR_CODE, REQUEST_ID, RETRY_AFTER, STATUS, render

TICKET = Ticket(request_id=b"test-1", received_at=0.0, deadline=1.0)
EVERY = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, ServingError)]
# what callers and proxies take as a fault of the service, and try again elsewhere
OURS = (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, StatusCode.INTERNAL, StatusCode.UNKNOWN)


def make(cls: type[ServingError], message: str = "what happened") -> ServingError:
    """Return an error of a class, whatever its constructor asks for."""
    error = cls.__new__(cls, message)
    Exception.__init__(error, message)
    error.retry_after_s = 1.0  # type: ignore[attr-defined]
    return error


def test_the_table_names_every_error_and_no_other() -> None:
    assert set(STATUS) == set(EVERY)
    assert len(EVERY) > 15


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_every_error_says_what_it_is(cls: type[ServingError]) -> None:
    code, message, metadata = render(make(cls), TICKET)
    assert code == STATUS[cls]
    # where the caller states no deadline, it is the service's that passed
    is_late = cls is errors.DeadlineExceeded
    assert message == ("what happened (limit default_timeout_ms: 1000)" if is_late else "what happened")
    assert dict(metadata)[REQUEST_ID] == "test-1"
    assert dict(metadata)[ERROR_CODE] == cls.code
    assert (RETRY_AFTER in dict(metadata)) == (code is StatusCode.UNAVAILABLE or cls is errors.RateLimited)


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_the_caller_s_errors_are_the_caller_s(cls: type[ServingError]) -> None:
    if issubclass(cls, errors.RequestError):
        assert STATUS[cls] not in OURS
    elif cls is not errors.ModelRejectedInput:  # of one item
        assert STATUS[cls] in OURS


def test_a_defect_of_ours_tells_nothing_of_itself() -> None:
    code, message, _ = render(ValueError("a secret path"), TICKET)
    assert code is StatusCode.INTERNAL
    assert "secret" not in message
    assert "test-1" in message


@pytest.mark.parametrize(("seconds", "told"), [(0.0, "1"), (1.1, "2"), (90.5, "91")])
def test_whoever_is_refused_learns_in_whole_seconds_when_to_come_back(seconds: float, told: str) -> None:
    _, _, metadata = render(Overloaded("full", retry_after_s=seconds), TICKET)
    assert dict(metadata)[RETRY_AFTER] == told


def test_any_text_can_be_quoted() -> None:
    _, message, _ = render(InvalidInput(Fault(pointer="input:x", code="wrong", message="\ud800 é 漢")), TICKET)
    assert message.encode()
    assert "é 漢" in message
