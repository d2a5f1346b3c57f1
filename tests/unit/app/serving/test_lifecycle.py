import pytest

from app.serving.lifecycle import ImpossibleTransition, State, follow, phase


@pytest.mark.parametrize(
    "states",
    [
        "loading proving ready unloading unloaded",
        "loading proving proving ready sick sick unloading unloaded unloaded",
        "loading proving ready sick unloaded",
        "loading failed sick unloaded",
        "loading proving failed unloading unloaded",
        "loading unloaded",
    ],
)
def test_a_version_goes_its_ways(states: str) -> None:
    first, *rest = map(State, states.split())
    for state in rest:
        first = follow(first, state)
    assert first == states.split()[-1]


@pytest.mark.parametrize(
    ("state", "following"),
    [
        ("loading", "ready"),  # what was not proven
        ("failed", "ready"),
        ("failed", "loading"),  # what is loaded again is a new version
        ("sick", "ready"),
        ("ready", "loading"),
        ("ready", "proving"),
        ("unloading", "ready"),
        ("unloaded", "ready"),
        ("unloaded", "sick"),
        ("unloading", "failed"),
    ],
)
def test_what_cannot_follow_is_a_defect_and_told(state: str, following: str) -> None:
    with pytest.raises(ImpossibleTransition, match=f"{following} cannot follow {state}"):
        follow(State(state), State(following))


def test_who_drains_wants_no_traffic_however_ready() -> None:
    assert phase(is_ready=True, is_draining=False) == "ready"
    assert phase(is_ready=False, is_draining=False) == "not_ready"
    assert phase(is_ready=True, is_draining=True) == phase(is_ready=False, is_draining=True) == "draining"
