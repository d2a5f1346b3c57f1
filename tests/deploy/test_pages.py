"""What the pages of Kubernetes and KServe tell one to do is possible with what lies in `deploy`."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.render import CHART, ROOT, helm
from tests.support.kubernetes import read
from tests.support.markdown import Page, code_words, commands

PAGE = Page.read(ROOT / "docs" / "deploy" / "kubernetes.md")
PAGES = [PAGE, Page.read(ROOT / "docs" / "deploy" / "kserve.md")]
METRICS = Page.read(ROOT / "docs" / "guides" / "http-api.md").table("metric")
COMMANDS = [
    shlex.split(command) for page in PAGES for block in page.blocks if block.kind == "bash"
    for command in commands(block.text)
]  # fmt: skip
RESOURCES = [document for block in PAGE.blocks if block.kind == "yaml" for document in yaml.safe_load_all(block.text)]


def value_at(path: str) -> Any:
    value: Any = yaml.safe_load((CHART / "values.yaml").read_text())
    for name in path.split("."):
        value = value[name]
    return value


def test_values_of_the_page_are_those_of_the_chart() -> None:
    rows = PAGE.table("value")
    for name, default, meaning in rows:
        (path,) = code_words(name)
        value = value_at(path)
        if default:
            told = "" if default == "none" else yaml.safe_load(code_words(default)[0])
            assert value == told or (default == "none" and value == {}), path
        for other in code_words(meaning):
            if re.fullmatch(r"[a-z]+\.[a-zA-Z]+", other) and other != "keys.json":
                value_at(other)
    (autoscaling,) = [meaning for name, _, meaning in rows if "cpuPercent" in name]
    assert re.findall(r"\((\d+)\)", autoscaling) == [
        str(value_at("autoscaling.minReplicas")), str(value_at("autoscaling.maxReplicas")),
    ]  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.name)
def test_values_that_are_named_are_there(page: Page) -> None:
    sections = "|".join(yaml.safe_load((CHART / "values.yaml").read_text()))
    for code in page.inline_code:
        if found := re.fullmatch(rf"((?:{sections})\.[a-zA-Z.]+)(?:=.*)?", code):
            value_at(found[1])


def test_files_that_are_applied_are_there() -> None:
    applied = [
        word for words in COMMANDS if words[:2] == ["kubectl", "apply"] for word in words if word.endswith("yaml")
    ]
    assert len(applied) >= 3
    assert all((ROOT / path).is_file() for path in applied)


def test_ports_that_are_forwarded_are_there() -> None:
    (admin,) = [words[-1] for words in COMMANDS if "port-forward" in words and "deployment/zero-to-one" in words]
    assert int(admin) == value_at("ports.admin")
    (pair,) = [words[-1] for words in COMMANDS if "port-forward" in words and "service/zero-to-one" in words]
    assert int(pair.partition(":")[2]) == value_at("service.port")


def test_metrics_to_scale_by_are_those_of_the_service() -> None:
    known = {word for row in METRICS for word in code_words(row[0])}
    text = "\n".join(block.text for block in PAGE.blocks if block.kind == "yaml")
    asked = set(re.findall(r"\bzto_\w+(?=\{)", text))
    assert asked
    assert asked <= known


def test_both_autoscalers_scale_what_the_chart_installs_as_far_as_the_chart_does() -> None:
    (installed,) = [r for r in read(ROOT / "deploy/kubernetes")["image.yaml"] if r["kind"] == "HorizontalPodAutoscaler"]
    scalers = {resource.get("kind"): resource["spec"] for resource in RESOURCES if "spec" in resource}
    assert set(scalers) == {"ScaledObject", "HorizontalPodAutoscaler"}
    bounds = [
        (spec["scaleTargetRef"]["name"], spec.get("minReplicas", spec.get("minReplicaCount")),
         spec.get("maxReplicas", spec.get("maxReplicaCount")))
        for spec in [installed["spec"], *scalers.values()]
    ]  # fmt: skip
    assert len(set(bounds)) == 1
    (rule,) = next(resource for resource in RESOURCES if "rules" in resource)["rules"]["custom"]
    (metric,) = scalers["HorizontalPodAutoscaler"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]


@pytest.mark.needs_helm
def test_kubernetes_knows_the_autoscaler_of_the_page() -> None:
    import kubernetes_validate

    (scaler,) = [resource for resource in RESOURCES if resource.get("kind") == "HorizontalPodAutoscaler"]
    kubernetes_validate.validate(scaler, "1.37", strict=True)


@pytest.mark.needs_helm
@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if words[0] == "helm"], ids=lambda words: " ".join(words[1:])
)
def test_helm_takes_its_commands(words: list[str], tmp_path: Path) -> None:
    """An installation renders; an upgrade that keeps what was said renders with what was said before."""
    assert words[1] in ("install", "upgrade")
    assert words[2:4] == ["zero-to-one", "deploy/helm"]
    before = ["--set", "access.secret=zero-to-one-keys"] if "--reset-then-reuse-values" in words else []
    rest = [word for word in words[2:] if word != "--reset-then-reuse-values"]
    done = subprocess.run([helm(), "template", *before, *rest], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "kind: Deployment" in done.stdout
