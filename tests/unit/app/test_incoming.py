import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import DeadlineExceeded, Overloaded
from app.incoming import Incoming


@given(st.lists(st.lists(st.integers(0, 400), max_size=5), max_size=8))
def test_what_is_taken_is_given_back_whatever_is_refused(bodies: list[list[int]]) -> None:
    incoming = Incoming(1000)
    shares = []
    for parts in bodies:
        share = incoming.share()
        shares.append(share)
        for part in parts:
            others = incoming.held_bytes
            if others + part <= 1000:
                share.add(part)
            else:
                with pytest.raises(Overloaded):
                    share.add(part)
    assert incoming.held_bytes == sum(sum(parts) for parts in bodies)
    for share in shares:
        with share:
            pass
    assert incoming.held_bytes == 0


def test_a_closed_share_takes_nothing_more() -> None:
    incoming = Incoming(1000)
    with incoming.share() as share:
        share.add(10)
    with pytest.raises(DeadlineExceeded):
        share.add(1)
    assert incoming.held_bytes == share.size == 0
