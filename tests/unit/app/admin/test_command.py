"""The command's own words, and what people read of an answer."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from app.admin import command
from app.admin.client import Client
from app.admin.errors import BadUse, Refused
from app.bundle.manifest import Tolerance
from app.serving.policy import Shadow

POLICY = {"default": "latest", "labels": {"stable": 1, "canary": 2}, "weights": {"canary": 0.1}, "keep": "all",
          "shadow": None}  # fmt: skip
ANSWER: dict[str, Any] = {
    "name": "cnn",
    "loaded": True,
    "policy": POLICY | {"shadow": {"version": 3, "share": 0.5, "cpu_share": 0.25}},
    "history": [],
    "versions": {
        "1": {"state": "ready", "reason": None, "labels": ["stable"]},
        "2": {"state": "failed", "reason": "its golden rows fail", "labels": ["canary"]},
    },
    "comparison": {"agreement": 0.995, "rows": {"agreed": 199, "disagreed": 1}, "waits_because": None,
                   "not_promotable_because": "200 rows are compared, and 1000 are asked for"},
    "workers": [{"worker": 0, "versions": ["1"], "default": "1", "error": None},
                {"worker": 1, "versions": [], "default": None, "error": "cnn/2: its golden rows fail"}],
    "kept": False,
    "not_kept_because": "ZTO_STATE_DIR is not set",
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ([], {}),
        (["--default", "2"], {"default": 2}),
        (["--default", "latest", "--keep", "served"], {"default": "latest", "keep": "served"}),
        (["--label", "next=3"], {"labels": {"stable": 1, "canary": 2, "next": 3}}),
        (["--label", "canary=3"], {"labels": {"stable": 1, "canary": 3}}),
        (["--drop-label", "canary"], {"labels": {"stable": 1}, "weights": {}}),
        (["--weight", "canary=0"], {"weights": {}}),
        (["--weight", "stable=0.9"], {"weights": {"canary": 0.1, "stable": 0.9}}),
        (["--no-weights", "--weight", "stable=0.5"], {"weights": {"stable": 0.5}}),
    ],
)
def test_what_is_not_said_of_a_policy_stays_as_it_is(words: list[str], changed: dict[str, Any]) -> None:
    options = command.parser().parse_args(["policy", "cnn", *words])
    assert command.changed(POLICY, options) == POLICY | changed


def test_an_answer_is_told_in_a_few_lines() -> None:
    assert command.told(ANSWER).splitlines() == [
        "cnn: the latest version answers",
        "  stable = version 1",
        "  canary = version 2, 0.1 of the requests",
        "  version 3 is the shadow, of 0.5 of the batches",
        "    99.5000% of 200 rows agree; 200 rows are compared, and 1000 are asked for",
        "  version 1: ready",
        "  version 2: failed: its golden rows fail",
        "  worker 0: version 1 answers, loaded: 1",
        "  worker 1: nothing answers, loaded: none; cnn/2: its golden rows fail",
        "  lasts until the restart: ZTO_STATE_DIR is not set",
    ]
    assert command.told(ANSWER | {"loaded": False}).startswith("cnn: unloaded\n")
    idle = ANSWER["comparison"] | {"agreement": None}
    assert "    nothing is compared yet: no traffic has come by" in command.told(ANSWER | {"comparison": idle})


@pytest.mark.parametrize(
    "words",
    [
        ["policy", "cnn", "--label", "x"],
        ["policy", "cnn", "--default", "new"],
        ["policy", "cnn", "--weight", "stable=nan"],
        ["shadow", "cnn", "2", "--share", "1.5"],
        ["--timeout-s", "inf", "status"],
        ["--timeout-s", "nan", "status"],
        ["--timeout-s", "0", "status"],
        [],
    ],
)
def test_words_that_make_no_sense_end_it_before_anything_is_asked(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "http://x:99999999"])
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(BadUse, match="is no URL"):
        Client(url, None, timeout_s=1.0)


@pytest.mark.parametrize(
    ("key", "told"),
    [(b"a\nb", "the key holds what no key does"), (b"\xff\xfe", "holds no text"), ("ключ".encode(), "ASCII")],
)
def test_a_file_that_holds_no_key_is_told(
    tmp_path: Path, key: bytes, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "key"
    file.write_bytes(key)
    assert command.main(["--key-file", str(file), "status"]) == 2
    assert told in capsys.readouterr().err


class Noted:
    """Takes note of what is asked, as :class:`Client` does not."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []

    def call(self, method: str, name: str, action: str, body: Any = None) -> dict[str, Any]:
        del method, name, action
        self.bodies.append(body)
        return ANSWER


def test_what_is_asked_of_a_shadow_is_what_the_service_takes() -> None:
    words = ["shadow", "cnn", "3", "--share", "0.5", "--min-rows", "10", "--tolerance", "0.1"]
    noted = Noted()
    command._ask(cast(Client, noted), command.parser().parse_args(words))
    assert Shadow.model_validate_json(json.dumps(noted.bodies[0]), strict=True) == Shadow(
        version=3, share=0.5, min_rows=10, tolerance=Tolerance(atol=0.1)
    )


@pytest.mark.parametrize("answer", [b"{}", b"[1]", b"no"])
def test_another_service_that_answers_is_told(answer: bytes) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.handle_request)
        thread.start()
        with pytest.raises(Refused, match="200"):
            Client(f"http://127.0.0.1:{other.server_port}", None, timeout_s=10.0).models()
        thread.join()


def test_a_host_that_is_no_name_is_told() -> None:
    with pytest.raises(Refused, match=r"no answer from a\.\.b"):
        Client("http://a..b", None, timeout_s=1.0).models()


def test_a_service_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refused, match=r"no answer from 127\.0\.0\.1:1"):
        Client("http://127.0.0.1:1", None, timeout_s=1.0).call("GET", "cnn", "")
    assert command.main(["--url", "http://127.0.0.1:1", "status", "cnn"]) == 1
    assert command.main(["--key-file", "/nowhere", "status"]) == 2
    assert "/nowhere cannot be read: No such file or directory" in capsys.readouterr().err
