"""Hostile cases are many kinds, and the same ones every time."""

from collections import Counter

import pytest

from tests.drills import doors
from tests.drills.hostile_cases import WEIGHTS, Cases


@pytest.fixture(scope="module")
def cases() -> Cases:
    return Cases(doors.asks(), doors.messages(), seed=1)


def test_a_number_is_always_the_same_case(cases: Cases) -> None:
    again = Cases(doors.asks(), doors.messages(), seed=1)
    other = Cases(doors.asks(), doors.messages(), seed=2)
    assert [cases.case(number) for number in range(200)] == [again.case(number) for number in range(200)]
    assert [cases.case(number) for number in range(200)] != [other.case(number) for number in range(200)]


def test_kinds_come_as_often_as_they_weigh(cases: Cases) -> None:
    assert sum(WEIGHTS.values()) == 1000
    assert Counter(cases.case(number).kind for number in range(1000)) == WEIGHTS


def test_most_cases_differ(cases: Cases) -> None:
    assert len({cases.case(number).parts for number in range(1000)}) > 900


def test_doors_are_those_of_the_soak_and_every_one_is_asked() -> None:
    from tests.drills.soak import WEIGHTS as OF_THE_SOAK

    assert set(OF_THE_SOAK) == {ask.door for ask in doors.asks()}
    assert sum(OF_THE_SOAK.values()) == 1000
