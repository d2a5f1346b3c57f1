"""``python -m app admin``: which versions of a model answer, in a running service.

The service is that of ``ZTO_HOST`` and ``ZTO_PORT``, or of ``ZTO_ADMIN_PORT``, unless ``--url`` says another. The key
is ``ZTO_ADMIN_KEY``, or stands in a file: on the command line everybody on the machine could read it.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.admin.client import Client
from app.admin.errors import AdminError, BadUse
from app.settings import Settings

# what the service takes for X-Request-Timeout-Ms
MOST_WAIT_S = 3600.0
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared, not bound


def main(argv: Sequence[str]) -> int:
    """Make one call, or ask for the state of every model.

    Returns:
        0; 1 where the service refuses, or cannot be reached; 2 where the command cannot be understood.
    """
    options = parser().parse_args(argv)
    try:
        client = Client(_url(options), _key(options), timeout_s=options.timeout_s)
        answers = _ask(client, options)
    except AdminError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return exc.status
    for answer in answers:
        sys.stdout.write((json.dumps(answer, indent=2) if options.json else told(answer)) + "\n")
    return 0


def told(answer: dict[str, Any]) -> str:
    """Return an answer in a few lines, for people."""
    policy = answer["policy"]
    default = "the latest version answers" if policy["default"] == "latest" else f"version {policy['default']} answers"
    lines = [f"{answer['name']}: {default if answer['loaded'] else 'unloaded'}"]
    for label, number in policy["labels"].items():
        share = policy["weights"].get(label)
        lines.append(f"  {label} = version {number}" + ("" if share is None else f", {share:.4g} of the requests"))
    if shadow := policy["shadow"]:
        lines.append(f"  version {shadow['version']} is the shadow, of {shadow['share']:.4g} of the batches")
    if (compared := answer["comparison"]) is not None:
        lines.append(f"    {_told_of_shadow(compared)}")
    for number, version in answer["versions"].items():
        lines.append(
            f"  version {number}: {version['state']}" + (f": {version['reason']}" if version["reason"] else "")
        )
    for worker in answer["workers"]:
        answering = "nothing" if worker["default"] is None else f"version {worker['default']}"
        error = f"; {worker['error']}" if worker["error"] else ""
        loaded = ", ".join(worker["versions"]) or "none"
        lines.append(f"  worker {worker['worker']}: {answering} answers, loaded: {loaded}{error}")
    if not answer["kept"]:
        lines.append(f"  lasts until the restart: {answer['not_kept_because']}")
    return "\n".join(lines)


def _told_of_shadow(compared: dict[str, Any]) -> str:
    if compared["agreement"] is None:
        return f"nothing is compared yet: {compared['waits_because'] or 'no traffic has come by'}"
    rows = compared["rows"]["agreed"] + compared["rows"]["disagreed"]
    missing = compared["not_promotable_because"]
    return f"{compared['agreement']:.4%} of {rows} rows agree; {missing or 'it may be promoted'}"


def _ask(client: Client, options: argparse.Namespace) -> list[dict[str, Any]]:
    if options.command == "status":
        return [client.call("GET", options.model, "")] if options.model else client.models()
    if options.command == "policy":
        policy = changed(client.call("GET", options.model, "")["policy"], options)
        return [client.call("PUT", options.model, "policy", policy)]
    if options.command == "shadow" and options.off:
        return [client.call("DELETE", options.model, "shadow")]
    if options.command == "shadow":
        if options.version is None:
            raise BadUse("say which version is to be the shadow, or --off")
        names = ("version", "share", "cpu_share", "min_agreement", "min_rows")
        asked = {name: getattr(options, name) for name in names}
        asked["tolerance"] = None if options.tolerance is None else {"atol": options.tolerance}
        return [client.call("PUT", options.model, "shadow", _given(asked))]
    if options.command == "promote":
        asked = {"version": options.version, "min_agreement": options.min_agreement, "min_rows": options.min_rows}
        return [client.call("POST", options.model, "promote", _given(asked))]
    return [client.call("POST", options.model, options.command)]


def changed(policy: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Return a policy with what was asked for; the rest stays as it is."""
    asked = policy | _given({"default": options.default, "keep": options.keep})
    labels = {**policy["labels"], **dict(options.label)}
    weights = {**policy["weights"], **dict(options.weight)}
    if options.no_weights:
        weights = dict(options.weight)
    for label in options.drop_label:
        labels.pop(label, None)
        weights.pop(label, None)
    return asked | {"labels": labels, "weights": {label: share for label, share in weights.items() if share > 0}}


def _given(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}


def _url(options: argparse.Namespace) -> str:
    if options.url is not None:
        return str(options.url)
    settings = Settings.from_environ(os.environ)
    is_apart = settings.admin_port is not None
    host, port = (settings.admin_host, settings.admin_port) if is_apart else (settings.host, settings.port)
    host = _ANY_ADDRESS.get(host, host)
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _key(options: argparse.Namespace) -> str | None:
    if options.key_file is not None:
        try:
            return Path(options.key_file).read_text(encoding="utf-8").strip()
        except OSError as exc:
            raise BadUse(f"{options.key_file} cannot be read: {exc.strerror or exc}") from exc
        except UnicodeDecodeError as exc:
            raise BadUse(f"{options.key_file} holds no text, and so no key") from exc
    return os.environ.get("ZTO_ADMIN_KEY")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's own words."""
    top = argparse.ArgumentParser(prog="python -m app admin", description=__doc__)
    top.add_argument("--url", help="of the service; default: that of ZTO_HOST and ZTO_PORT")
    top.add_argument("--key-file", metavar="FILE", help="holds the key; default: ZTO_ADMIN_KEY")
    top.add_argument("--timeout-s", type=_seconds, default=60.0, help="seconds to wait for the service; default: 60")
    top.add_argument("--json", action="store_true", help="print what the service answers")
    commands = top.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="what is wished of a model, or of all, and what has come of it")
    status.add_argument("model", nargs="?")
    for name, what in (
        ("load", "load what is new or changed on the disk"),
        ("unload", "take a model out of rotation"),
        ("rollback", "go back to what answered before"),
    ):
        commands.add_parser(name, help=what).add_argument("model")
    policy = commands.add_parser("policy", help="say which versions answer; what is not said stays as it is")
    policy.add_argument("model")
    policy.add_argument("--default", type=_version, metavar="latest|N", help="who answers where nothing else is said")
    policy.add_argument("--label", type=_pair(int), action="append", default=[], metavar="NAME=N")
    policy.add_argument("--drop-label", action="append", default=[], metavar="NAME")
    policy.add_argument("--weight", type=_pair(_share), action="append", default=[], metavar="NAME=SHARE",
                        help="share of the requests without a version; 0 takes it away")  # fmt: skip
    policy.add_argument("--no-weights", action="store_true", help="take all others away")
    policy.add_argument("--keep", choices=("all", "served"), help="which versions are held loaded")
    shadow = commands.add_parser("shadow", help="give a version a copy of the traffic")
    shadow.add_argument("model")
    shadow.add_argument("version", type=int, nargs="?")
    shadow.add_argument("--share", type=_share, help="of the batches that are answered")
    shadow.add_argument("--cpu-share", type=_share, help="of the time of one core")
    shadow.add_argument("--min-agreement", type=_share, help="share of rows that have to agree before it is promoted")
    shadow.add_argument("--min-rows", type=int, help="rows that have to be compared before")
    shadow.add_argument("--tolerance", type=float, help="largest difference of two numbers that count as the same")
    shadow.add_argument("--off", action="store_true", help="end it")
    promote = commands.add_parser("promote", help="let the shadow answer, if it has earned it")
    promote.add_argument("model")
    promote.add_argument("version", type=int, nargs="?")
    promote.add_argument("--min-agreement", type=_share, help="in place of that of the policy")
    promote.add_argument("--min-rows", type=int, help="likewise")
    return top


def _version(text: str) -> str | int:
    return text if text == "latest" else int(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.001 <= seconds <= MOST_WAIT_S:
        raise argparse.ArgumentTypeError(f"expected 0.001 to {MOST_WAIT_S:g} seconds, found {text}")
    return seconds


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError("expected a share from 0 to 1")
    return share


def _pair(kind: Callable[[str], Any]) -> Callable[[str], tuple[str, Any]]:
    def parse(text: str) -> tuple[str, Any]:
        name, separator, value = text.partition("=")
        if not separator:
            raise argparse.ArgumentTypeError(f"expected NAME=VALUE, found {text!r}")
        try:
            return name, kind(value)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(f"{text!r}: {exc}") from exc

    return parse
