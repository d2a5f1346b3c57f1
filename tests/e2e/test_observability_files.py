"""`deploy/observability`: what it asks of the service is there. `make alerts` runs what needs promtool."""

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.main import create_app
from app.settings import Settings
from tests.support.markdown import Page

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "observability"
PROMETHEUS = FOLDER / "prometheus"
# of a dashboard, and what stands for them where a query is only read
VARIABLES = {"$__rate_interval": "5m", "$instance": "a", "$model": "cnn"}
# of every scrape, and of every alert
OF_PROMETHEUS = {"instance", "job"}
KNOWN_ELSEWHERE = {"up"}
SUFFIXES = ("_bucket", "_sum", "_count", "_total")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


RULES = [
    rule
    for path in sorted((PROMETHEUS / "rules").glob("*.yml"))
    for group in read(path)["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((FOLDER / "grafana/dashboards/zero-to-one.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
ANNOTATIONS = [each["expr"] for each in DASHBOARD["annotations"]["list"]]
EXPRESSIONS = [rule["expr"] for rule in RULES] + QUERIES + ANNOTATIONS


@cache
def labels_of() -> dict[str, set[str]]:
    """Return the labels of each figure of the service, by the name that a query has for it."""
    families = list(create_app(Settings(models_dir=ROOT / "models")).figures.collect())
    found: dict[str, set[str]] = {}
    for family in families:
        names = set(getattr(family, "_labelnames"))  # noqa: B009  of all families of prometheus_client, declared by none
        if family.type == "histogram":
            found |= {
                f"{family.name}_bucket": names | {"le"},
                f"{family.name}_sum": names,
                f"{family.name}_count": names,
            }
        else:
            found[f"{family.name}_total" if family.type == "counter" else family.name] = names
    return found


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\bzto_\w+|\bup\b", expression))


def selectors_in(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each metric that is filtered, with the labels of the filter."""
    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", expression):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))


def grouped_by(expression: str, words: str = "by|without|on|ignoring") -> set[str]:
    found = re.findall(rf"\b(?:{words})\s*\(([^)]*)\)", expression)
    return {label.strip() for labels in found for label in labels.split(",")}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_asks_for_figures_and_labels_that_are_there(expression: str) -> None:
    known = labels_of()
    metrics = metrics_in(expression)
    assert metrics
    assert metrics - known.keys() - KNOWN_ELSEWHERE == set()
    for name, labels in selectors_in(expression):
        assert labels - known.get(name, set()) - OF_PROMETHEUS == set(), name
    told = set().union(*(known.get(name, set()) for name in metrics))
    assert grouped_by(expression) - told - OF_PROMETHEUS == set()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_bad_it_is_and_where(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "description"}
    known = set().union(*(labels_of().get(name, set()) for name in metrics_in(rule["expr"]))) | OF_PROMETHEUS
    named = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    assert "instance" in named
    assert named <= known
    by = grouped_by(rule["expr"], "by") - {"le"}
    assert not by or named <= by  # what is not in the sum is not in the alert


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_a_legend_tells_labels_that_are_left(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        by = re.search(r"\bby \(([^)]*)\)", target["expr"])
        left = (
            set(by[1].split(", ")) if by else set().union(*(labels_of()[name] for name in metrics_in(target["expr"])))
        )
        assert named <= left | (set() if by else OF_PROMETHEUS)


def test_panels_have_places_of_their_own() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places
        assert at["x"] + at["w"] <= 24
        places |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_figure_is_shown() -> None:
    shown = set().union(*(metrics_in(query) for query in QUERIES))
    bare = {re.sub(rf"({'|'.join(SUFFIXES)})$", "", name) for name in shown}
    known = {re.sub(rf"({'|'.join(SUFFIXES)})$", "", name) for name in labels_of()}
    assert known - bare == set()


def test_every_alert_is_tried_where_it_fires_and_where_it_does_not() -> None:
    cases = [case for test in read(PROMETHEUS / "rules_test.yml")["tests"] for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in RULES}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names


def test_the_guide_tells_of_every_alert() -> None:
    rows = Page.read(ROOT / "docs/guides/observability.md").table("alert")
    told = {name.strip("`"): severity for name, severity, *_ in rows}
    assert told == {rule["alert"]: rule["labels"]["severity"] for rule in RULES}


# Compose


COMPOSE = read(ROOT / "docker-compose.yml")


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_both_come_with_the_profile_alone_and_only_to_this_machine(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["profiles"] == ["observability"]
    assert all(port.startswith("127.0.0.1:${PUBLISH_") for port in service["ports"])
    assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"])
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    for volume in service["volumes"]:
        source, _, rest = volume.partition(":")
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
        assert rest.endswith(":ro") is source.startswith(".")


def test_the_parts_know_each_other() -> None:
    (scrape,) = read(PROMETHEUS / "prometheus.yml")["scrape_configs"]
    (target,) = scrape["static_configs"][0]["targets"]
    assert target == "service:8000"
    assert "service" in COMPOSE["services"]
    secret = Path(scrape["authorization"]["credentials_file"])
    assert secret.parent == Path("/run/secrets")
    assert COMPOSE["services"]["prometheus"]["secrets"] == [secret.name]
    default = re.fullmatch(r"\$\{METRICS_KEY_FILE:-(.+)\}", COMPOSE["secrets"][secret.name]["file"])
    assert default is not None
    assert (ROOT / default[1]).read_bytes() == b""
    (source,) = read(FOLDER / "grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    used = re.findall(r'"uid": "([^"]+)"', json.dumps(DASHBOARD))
    assert set(used) == {source["uid"], DASHBOARD["uid"]}
    (provider,) = read(FOLDER / "grafana/provisioning/dashboards/zero-to-one.yml")["providers"]
    mounted = [volume.split(":")[1] for volume in COMPOSE["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted


def test_compose_can_send_what_the_guide_says_of_traces() -> None:
    guide = Page.read(ROOT / "docs/guides/observability.md")
    (command,) = [block.text for block in guide.blocks if block.kind == "bash" and "--build" in block.text]
    told = set(re.findall(r"\b([A-Z_]+)=", "\n".join(block.text for block in guide.blocks if block.kind == "bash")))
    for name in ("service", "service-torch"):
        service = COMPOSE["services"][name]
        assert {each for each in told if each.startswith("OTEL_")} <= set(service["environment"])
        assert set(re.findall(r"\b(EXTRAS)=", command)) <= set(service["build"]["args"])


# Promtool


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs_promtool
def test_prometheus_reads_its_configuration_and_its_rules() -> None:
    promtool("check", "config", "--syntax-only", str(PROMETHEUS / "prometheus.yml"))
    promtool("check", "rules", *map(str, (PROMETHEUS / "rules").glob("*.yml")))


@pytest.mark.needs_promtool
def test_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", str(PROMETHEUS / "rules_test.yml"))


@pytest.mark.needs_promtool
def test_prometheus_reads_every_query_of_the_dashboard(tmp_path: Path) -> None:
    def filled(query: str) -> str:
        for name, value in VARIABLES.items():
            query = query.replace(name, value)
        assert "$" not in query
        return query

    rules = [{"record": f"query:{number}", "expr": filled(query)} for number, query in enumerate(QUERIES + ANNOTATIONS)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", str(path))
