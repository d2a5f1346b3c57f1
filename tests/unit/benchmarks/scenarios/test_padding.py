"""Texts of mixed lengths: what is sent, and what is read from the metrics."""

import json

from benchmarks.scenarios import padding

METRICS = """\
# HELP zto_batch_elements_total x
zto_batch_elements_total{model="lstm",version="1"} 7.0
zto_batch_elements_total{model="transformer",version="1"} 100.0
zto_batch_elements_total{model="transformer",version="2"} 20.0
zto_padding_elements_total{bucket="64",model="transformer",version="1"} 1.5e+01
"""


def test_a_figure_of_a_model_is_summed_over_its_other_labels() -> None:
    assert padding.total(METRICS, "zto_batch_elements_total", "transformer") == 120
    assert padding.total(METRICS, "zto_padding_elements_total", "transformer") == 15


def test_a_figure_that_is_not_there_is_zero() -> None:
    assert padding.total(METRICS, "zto_batch_rows_sum", "transformer") == 0


def test_requests_are_whole_and_the_same_every_time() -> None:
    requests = padding.text_requests(3)
    assert requests == padding.text_requests(3)
    for request in requests:
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /predict/transformer HTTP/1.1\r\n")
        assert json.loads(body)["instances"][0]["text"]


def test_the_service_is_told_how_to_pad() -> None:
    assert [padding.bucketed("x", value).environ[padding.BUCKETS] for value in ("0", "1")] == ["0", "1"]
