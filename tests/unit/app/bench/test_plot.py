import re
from xml.etree import ElementTree

from app.bench.histogram import Histogram
from app.bench.plot import latency_svg

SVG = "{http://www.w3.org/2000/svg}"


def counted(*nanoseconds: int) -> Histogram:
    histogram = Histogram()
    for each in nanoseconds:
        histogram.record(each)
    return histogram


def lines(document: str) -> list[list[tuple[float, float]]]:
    return [
        [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]  # type: ignore[misc]
        for line in ElementTree.fromstring(document).iter(f"{SVG}polyline")
    ]


def test_a_curve_rises_to_the_longest_time_within_the_frame() -> None:
    document = latency_svg("a & b", [("response", counted(*range(1_000_000, 9_000_000, 7_000)))])
    (points,) = lines(document)
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
    assert all(0 <= x <= 760 and 0 <= y <= 420 for x, y in points)
    labels = [text.text for text in ElementTree.fromstring(document).iter(f"{SVG}text")]
    assert labels[0] == "a & b"
    assert {"0%", "90%", "99%", "99.9%", "99.99%"} <= set(labels)
    assert "10" in labels  # milliseconds, round, above the longest


def test_each_curve_with_times_is_drawn_and_named() -> None:
    document = latency_svg("", [("one", counted(5)), ("none", counted()), ("two", counted(7, 9))])
    assert len(lines(document)) == 2
    assert not re.search(">none<", document)


def test_without_any_time_there_is_still_a_plot() -> None:
    assert lines(latency_svg("nothing", [("one", counted())])) == []
