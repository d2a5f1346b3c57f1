"""The stripped apps answer as the service does; less would be no comparison."""

import http.client
import json
from typing import Any

import pytest

from benchmarks import pictures
from benchmarks.scenarios import _bundles, _ladder, stages, stripped
from benchmarks.servers import Server, service, start, two_cores

BODIES = pictures.bodies(3)
BUNDLE = _bundles.newest(stripped.MODEL)


def answers(server: Server) -> list[Any]:
    with start(server, two_cores()[0]) as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
        found = []
        for body in BODIES:  # one after the other on one connection
            connection.request("POST", server.path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert response.status == 200
            found.append(json.loads(response.read()))
        connection.close()
    return found


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    return answers(service(stripped.MODEL, _bundles.MODELS_DIR))


@pytest.mark.parametrize("create", [stripped.stripped_asgi, stripped.stripped_protocol])
def test_a_stripped_app_answers_as_the_service_does(create: Any, expected: list[Any]) -> None:
    assert answers(create(BUNDLE)) == expected


def test_the_top_of_the_ladder_answers_as_the_service_does(expected: list[Any]) -> None:
    assert answers(stages._rung(_ladder.ENCODE)) == expected


@pytest.mark.parametrize("step", _ladder.STEPS[:-1])
def test_the_other_rungs_always_give_the_first_answer(step: str, expected: list[Any]) -> None:
    assert answers(stages._rung(step)) == expected[:1] * len(BODIES)


def test_every_rung_has_a_line_in_the_table() -> None:
    assert tuple(stages.STEPS) == _ladder.STEPS
