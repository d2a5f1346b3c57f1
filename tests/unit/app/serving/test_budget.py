from hypothesis import given
from hypothesis import strategies as st

from app.serving.budget import SAVED_FOR_S, Budget


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_work_begins_at_once_and_what_it_takes_beyond_is_owed() -> None:
    clock = Clock()
    budget = Budget(0.5, clock=clock)
    assert budget.wait_s() == 0
    budget.spend(0.5 * SAVED_FOR_S + 1.0)
    assert budget.wait_s() == 2.0  # half a second comes in each second
    clock.now += 1.5
    assert budget.wait_s() == 0.5
    clock.now += 0.5
    assert budget.wait_s() == 0


def test_no_more_is_saved_than_comes_in_within_the_saving_time() -> None:
    clock = Clock()
    budget = Budget(0.5, clock=clock)
    clock.now += 1000
    assert budget.wait_s() == 0
    budget.spend(0.5 * SAVED_FOR_S + 0.25)
    assert budget.wait_s() == 0.5


@given(
    share=st.floats(0.01, 1),
    pieces=st.lists(st.tuples(st.floats(0, 0.3), st.floats(0, 0.5)), min_size=1, max_size=60),
)
def test_over_any_stretch_no_more_is_spent_than_came_in_was_saved_and_the_last_piece(
    share: float, pieces: list[tuple[float, float]]
) -> None:
    clock = Clock()
    budget = Budget(share, clock=clock)
    spent: list[tuple[float, float]] = []  # when it began, and what it took
    for idle_s, took_s in pieces:
        clock.now += idle_s + budget.wait_s()
        spent.append((clock.now, took_s))
        clock.now += took_s
        budget.spend(took_s)
    for first, (began_at, _) in enumerate(spent):
        for last in range(first, len(spent)):
            stretch_s = spent[last][0] - began_at
            before_last = sum(took_s for _, took_s in spent[first:last])
            assert before_last <= share * (stretch_s + SAVED_FOR_S) + 1e-6
