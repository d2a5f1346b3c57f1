"""What is collected, when, and that nothing stays uncollected."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from app import memory


class Ring:
    """An object that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _collector_as_it_was() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_inside_and_what_was_made_is_passed_over_until_settled() -> None:
    with memory.without_collections():
        assert not gc.isenabled()
        made = weakref.ref(Ring())
    assert gc.isenabled()
    gc.collect()
    assert made() is not None
    memory.settle()
    assert made() is None
    assert gc.get_freeze_count() > 0


def test_the_collector_is_back_after_a_failure() -> None:
    with pytest.raises(RuntimeError, match="no app"), memory.without_collections():
        raise RuntimeError("no app")
    assert gc.isenabled()
