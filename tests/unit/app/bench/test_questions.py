from pathlib import Path

import pytest

from app.bench.errors import BenchError
from app.bench.load import Target
from app.bench.questions import parse_headers, parse_url, read_bodies, read_body


def test_a_url_tells_target_path_and_host() -> None:
    place = parse_url("http://example.org:81/predict/cnn?top=3")
    assert place.target == Target(host="example.org", port=81)
    assert (place.path, place.netloc) == ("/predict/cnn?top=3", "example.org:81")


def test_a_url_without_a_path_predicts_with_the_model() -> None:
    assert parse_url("https://example.org", model="cnn").path == "/predict/cnn"
    encrypted = parse_url("https://example.org/", model="cnn").target
    assert (encrypted.host, encrypted.port) == ("example.org", 443)
    assert encrypted.tls is not None
    assert encrypted.tls.check_hostname


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://", "no URL of HTTP"),
        ("ftp://example.org/predict/cnn", "no URL of HTTP"),
        ("http://example.org:port/x", "is no URL: Port could not be cast"),
        ("http://example.org", "names no model"),
    ],
)
def test_what_is_no_place_is_refused(url: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        parse_url(url)


def test_bodies_are_the_lines_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "bodies").write_text('{"a": 1}\n\n  [2]  \n')
    assert read_bodies(tmp_path / "bodies") == [b'{"a": 1}', b"[2]"]


@pytest.mark.parametrize(("text", "message"), [("", "holds no body"), ('{"a": 1}\n{', "line 2 is no JSON")])
def test_a_file_of_no_bodies_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bodies").write_text(text)
    with pytest.raises(BenchError, match=message):
        read_bodies(tmp_path / "bodies")


def test_a_body_is_taken_as_it_is_and_one_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"\x00\xff\n")
    assert read_body(tmp_path / "body") == b"\x00\xff\n"
    with pytest.raises(BenchError, match="nowhere cannot be read: No such file"):
        read_body(tmp_path / "nowhere")


def test_headers_are_names_and_values() -> None:
    assert parse_headers(["X-Request-Timeout-Ms: 50", "a:b:c"], "image/png") == {
        "Content-Type": "image/png", "X-Request-Timeout-Ms": "50", "a": "b:c"
    }  # fmt: skip


@pytest.mark.parametrize("line", ["no colon", ": no name", "a: b\r\nc: d"])
def test_what_is_no_header_is_refused(line: str) -> None:
    with pytest.raises(BenchError, match="is no header"):
        parse_headers([line], None)
