"""Policies: what they may say, and who answers by them."""

from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from app.bundle.loader import BundleRef
from app.serving.policy import MAX_LABELS, Dealer, Policy, Shadow
from app.serving.versions import Model, State, Version

by_chance = Random(0).random
STATES = (State.READY, State.READY, State.READY)


def model_of(policy: Policy, *states: State, draw: Callable[[], float] = by_chance) -> Model:
    """Return a model of versions 1, 2, ... in these states."""
    versions = [
        Version(ref=BundleRef(name="cnn", version=number, folder=Path(str(number))), state=state)
        for number, state in enumerate(states, start=1)
    ]
    return Model(name="cnn", versions=versions, policy=policy, draw=draw)


def numbers_dealt(model: Model, requests: int) -> list[int]:
    return [model.pick().ref.version for _ in range(requests)]


def test_latest_is_the_highest_that_is_ready() -> None:
    assert model_of(Policy(), *STATES).pick().ref.version == 3
    assert model_of(Policy(), State.READY, State.READY, State.FAILED).pick().ref.version == 2
    assert model_of(Policy(), State.FAILED, State.LOADING).pick().ref.version == 2


def test_latest_is_never_the_shadow() -> None:
    assert model_of(Policy(shadow=Shadow(version=3)), *STATES).pick().ref.version == 2


def test_a_pinned_version_answers_whether_it_is_ready_or_not() -> None:
    assert model_of(Policy(default=1), *STATES).pick().ref.version == 1
    failed = model_of(Policy(default=2), State.READY, State.FAILED, State.READY).pick()
    assert (failed.ref.version, failed.state) == (2, State.FAILED)


def test_weights_deal_requests_out_in_proportion_and_the_default_answers_the_rest() -> None:
    policy = Policy(default=1, labels={"stable": 2, "canary": 3}, weights={"stable": 0.5, "canary": 0.2})
    evenly = cycle(step / 100 for step in range(100))
    dealt = numbers_dealt(model_of(policy, *STATES, draw=lambda: next(evenly)), 1000)
    assert [dealt.count(number) for number in (1, 2, 3)] == [300, 500, 200]


def test_weights_by_chance_come_out_near_their_shares() -> None:
    policy = Policy(default=1, labels={"canary": 3}, weights={"canary": 0.1})
    dealt = numbers_dealt(model_of(policy, *STATES), 10_000)
    assert 850 < dealt.count(3) < 1150
    assert dealt.count(2) == 0


def test_a_weighted_version_that_is_not_ready_leaves_its_share_to_the_default() -> None:
    policy = Policy(default=1, labels={"canary": 3}, weights={"canary": 1.0})
    assert numbers_dealt(model_of(policy, State.READY, State.READY, State.FAILED), 5) == [1] * 5
    assert numbers_dealt(model_of(policy, State.READY), 5) == [1] * 5


def test_weights_that_add_up_to_one_leave_nothing_to_the_default() -> None:
    thirds = Policy(labels={"a": 1, "b": 2, "c": 3}, weights=dict.fromkeys("abc", 1 / 3))
    assert Dealer(thirds).deal(0.9999999) == 3


def test_a_policy_that_is_adopted_counts_from_then_on() -> None:
    model = model_of(Policy(), *STATES)
    model.adopt(Policy(default=1, labels={"canary": 2}, weights={"canary": 1.0}))
    assert numbers_dealt(model, 3) == [2, 2, 2]
    model.adopt(Policy(default=1))
    assert numbers_dealt(model, 3) == [1, 1, 1]


def test_versions_are_found_by_number_and_by_label() -> None:
    model = model_of(Policy(labels={"canary": 2, "gone": 9}), *STATES)
    found = model.named("canary")
    assert found is not None
    assert found is model.named("2") is model.numbered(2)
    assert [model.named(name) for name in ("gone", "02", "4", "latest", "")] == [None] * 5
    assert model.names == ("1", "2", "3", "canary", "gone")


def test_a_policy_names_the_versions_that_it_needs() -> None:
    policy = Policy(default=2, labels={"canary": 5, "stable": 2}, shadow=Shadow(version=7))
    assert policy.named == {2, 5, 7}
    assert Policy().named == frozenset()


def test_a_policy_survives_json() -> None:
    policy = Policy(default=2, labels={"canary": 5}, weights={"canary": 0.25}, keep="served", shadow=Shadow(version=7))
    assert Policy.model_validate_json(policy.model_dump_json()) == policy


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"default": 0}, "number of a version, from 1 to 999999999"),
        ({"default": "newest"}, "'latest'"),
        ({"default": True}, "expected 'latest' or"),
        ({"labels": {"Canary": 1}}, "a label is"),
        ({"labels": {"latest": 1}}, "not 'latest'"),
        ({"labels": {"7": 1}}, "a label is"),
        ({"labels": {f"l{n}": 1 for n in range(MAX_LABELS + 1)}}, "at most 16"),
        ({"weights": {"canary": 0.1}}, "weights of labels that are not there: canary; there are: none"),
        ({"labels": {"a": 1, "b": 2}, "weights": {"a": 0.6, "b": 0.6}}, "the weights add up to 1.2"),
        ({"labels": {"a": 1}, "weights": {"a": 0}}, "greater than 0"),
        ({"labels": {"a": 1}, "weights": {"a": float("nan")}}, "finite"),
        ({"keep": "none"}, "'all' or 'served'"),
        ({"default": 2, "shadow": {"version": 2}}, "cannot shadow itself"),
        ({"shadow": {"version": 2, "cpu_share": 2}}, "less than or equal to 1"),
        ({"pinned": 2}, "not permitted"),
    ],
)
def test_what_cannot_be_is_told(document: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Policy.model_validate(document)
