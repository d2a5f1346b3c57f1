"""Each drill in its short form: it runs, and counts what it should. Times and memory are the long form's."""

import pytest

from benchmarks import machine, servers
from tests.drills import nginx, page, results
from tests.drills.__main__ import PAGE, hold, load
from tests.drills.books import Books, Loss
from tests.drills.drill import Found, Setting


@pytest.fixture(scope="session")
def setting() -> Setting:
    server_core, load_core = servers.two_cores()
    return Setting(is_short=True, server_core=server_core, load_core=load_core, tell=lambda line: None)


def found(name: str, setting: Setting) -> Found:
    done = hold(name, setting)
    assert not done.misses, done
    return done


def test_a_service_that_is_ended_loses_no_request(setting: Setting) -> None:
    figures = found("sigterm", setting).figures
    assert figures["lost"] == 0
    assert figures["exit_statuses"] == [0]
