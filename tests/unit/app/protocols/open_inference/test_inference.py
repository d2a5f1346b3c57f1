"""What a request says of its own time, in Triton's parameter."""

import math

import pytest

from app.errors import InvalidInput
from app.protocols.open_inference.inference import _timeout_s


@pytest.mark.parametrize(
    ("given", "seconds"), [({}, math.inf), ({"timeout": 0}, math.inf), ({"timeout": 2500}, 0.0025)]
)
def test_a_request_tells_its_time_in_microseconds(given: dict[str, int], seconds: float) -> None:
    assert _timeout_s(given) == seconds


def test_more_microseconds_than_a_float_holds_are_a_very_long_time() -> None:
    assert _timeout_s({"timeout": 10**399}) == 2**63 / 1e6


@pytest.mark.parametrize("timeout", [-1, True, 1.5, "5"])
def test_no_whole_number_of_microseconds_is_refused(timeout: bool | float | str) -> None:
    with pytest.raises(InvalidInput, match="parameter:timeout: expected whole microseconds, found"):
        _timeout_s({"timeout": timeout})
