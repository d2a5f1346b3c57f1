"""The command's own words, and what people read of an answer."""

from typing import Any

import pytest

from app.admin import command
from app.admin.client import Client
from app.admin.errors import BadUse, Refused

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


@pytest.mark.parametrize("words", [["policy", "cnn", "--label", "x"], ["policy", "cnn", "--default", "new"], []])
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


def test_a_service_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refused, match=r"no answer from 127\.0\.0\.1:1"):
        Client("http://127.0.0.1:1", None, timeout_s=1.0).call("GET", "cnn", "")
    assert command.main(["--url", "http://127.0.0.1:1", "status", "cnn"]) == 1
    assert command.main(["--key-file", "/nowhere", "status"]) == 2
    assert "/nowhere cannot be read: No such file or directory" in capsys.readouterr().err
