"""The guarded service is asked with a key, the other without, and nothing else differs."""

from pathlib import Path

from benchmarks.scenarios import guarded
from benchmarks.scenarios._bundles import MODELS_DIR


def test_a_request_brings_its_key_in_its_head() -> None:
    request = b"POST /predict/cnn HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    head, _, body = guarded.with_key(request, "zto_abc").partition(b"\r\n\r\n")
    assert b"\r\nAuthorization: Bearer zto_abc" in head
    assert body == b"{}"
    assert guarded.with_key(request, "zto_abc").replace(b"Authorization: Bearer zto_abc\r\n", b"") == request


def test_both_are_asked_the_same_by_json_and_by_raw_bytes(tmp_path: Path) -> None:
    by_name = {each.server.name: each for each in guarded.contenders(tmp_path / "keys.json", "zto_abc")}
    for off, on in ((guarded.OFF, guarded.ON), (guarded.OFF_RAW, guarded.ON_RAW)):
        expected = [guarded.with_key(request, "zto_abc") for request in by_name[off].requests]
        assert by_name[on].requests == expected
        added = dict(by_name[on].server.environ.items() - by_name[off].server.environ.items())
        assert added == guarded.environ(tmp_path / "keys.json")
        assert by_name[off].server.environ["ZTO_MODELS_DIR"] == str(MODELS_DIR)
