"""What GitHub runs is pinned, may little, and does what `.ci/run` does."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
TEXTS = {path.name: path.read_text() for path in sorted((GITHUB / "workflows").glob("*.yml"))}
WORKFLOWS: dict[str, Any] = {name: yaml.load(text, Loader=yaml.BaseLoader) for name, text in TEXTS.items()}
JOBS = [pytest.param(job, id=f"{name}:{key}") for name, flow in WORKFLOWS.items() for key, job in flow["jobs"].items()]
BIN = Path(sys.executable).parent

each_workflow = pytest.mark.parametrize("name", list(WORKFLOWS))
each_job = pytest.mark.parametrize("job", JOBS)


def make_targets(text: str) -> set[str]:
    return set(re.findall(r"(?:^|\s)make ([a-z-]+)", text, re.MULTILINE))


@each_workflow
def test_every_action_is_pinned_by_commit_and_says_its_version(name: str) -> None:
    used = re.findall(r"^ +(?:- )?uses: (.+)$", TEXTS[name], re.MULTILINE)
    assert len(used) == TEXTS[name].count("uses:")
    for action in used:
        own = re.fullmatch(r"\$/(\.github/\S+)", action)
        assert (own and (ROOT / own[1]).is_file()) or re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


def test_one_action_has_one_pin_everywhere() -> None:
    pins = {pin for text in TEXTS.values() for pin in re.findall(r"uses: (\S+@\S+ # \S+)", text)}
    actions = [pin.partition("@")[0] for pin in pins]
    assert len(actions) == len(set(actions))


@each_workflow
def test_a_workflow_may_nothing_by_itself(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {}
    assert "concurrency" in WORKFLOWS[name]


@each_job
def test_a_job_says_what_it_may_and_how_long(job: dict[str, Any]) -> None:
    assert job["permissions"]
    assert "uses" in job or int(job["timeout-minutes"]) <= 60
    writes = {scope for scope, access in job["permissions"].items() if access == "write"}
    assert writes <= {"attestations", "id-token", "packages"}


def test_writing_is_for_tags_alone() -> None:
    assert WORKFLOWS["release.yml"]["on"] == {"push": {"tags": ["v*"]}}
    assert all(set(job["permissions"].values()) == {"read"} for job in WORKFLOWS["ci.yml"]["jobs"].values())


def test_ci_does_what_the_script_does() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    runs = "\n".join(step.get("run", "") for job in WORKFLOWS["ci.yml"]["jobs"].values() for step in job["steps"])
    script = (ROOT / ".ci" / "run").read_text()
    of_script = set(re.findall(r"^step make ([a-z-]+)$", script, re.MULTILINE))
    assert len(of_script) >= 4
    assert make_targets(runs) == of_script
    assert of_script <= targets
    assert re.findall(r"^ *(shellcheck .+)$", script, re.MULTILINE) == re.findall(
        r"^(shellcheck .+)$", runs, re.MULTILINE
    )


def test_both_architectures_are_built_tested_and_published() -> None:
    both = [
        {"architecture": "amd64", "runner": "ubuntu-24.04"},
        {"architecture": "arm64", "runner": "ubuntu-24.04-arm"},
    ]
    for flow in WORKFLOWS.values():
        assert flow["jobs"]["image"]["strategy"]["matrix"]["include"] == both


def test_the_image_that_is_published_is_a_stage_and_has_its_papers() -> None:
    steps = WORKFLOWS["release.yml"]["jobs"]["image"]["steps"]
    (build,) = [step["with"] for step in steps if step.get("uses", "").startswith("docker/build-push-action@")]
    assert f"AS {build['target']}\n" in (ROOT / "Dockerfile").read_text()
    assert (build["sbom"], build["provenance"]) == ("true", "mode=max")
    assert WORKFLOWS["release.yml"]["jobs"]["image"]["needs"] == "verify"
    assert WORKFLOWS["release.yml"]["jobs"]["publish"]["needs"] == "image"


STUB = """#!/bin/sh
printf '%s\\n' "$*" >>"$CALLS"
case "$0" in */gh) printf 'refs/tags/v%s\\n' $VERSIONS ;; esac
"""


@pytest.mark.parametrize(
    ("version", "others", "tags"),
    [
        ("1.2.10", "1.2.9 1.1.30 2.0.0-rc1", ["1.2.10", "1.2", "latest"]),
        ("1.1.31", "1.2.9 1.1.30", ["1.1.31", "1.1"]),
        ("2.0.0rc1", "1.2.9", ["2.0.0rc1"]),
    ],
)
def test_a_release_gets_the_tags_of_its_line_and_latest_if_it_is(
    version: str, others: str, tags: list[str], tmp_path: Path
) -> None:
    """The step runs as GitHub runs it; what it calls takes note of that and does nothing."""
    (join,) = [step for step in WORKFLOWS["release.yml"]["jobs"]["publish"]["steps"] if step.get("id") == "join"]
    assert join["shell"] == "bash"
    for name in ("docker", "gh"):
        (tmp_path / name).write_text(STUB)
        (tmp_path / name).chmod(0o755)
    digests = tmp_path / join["working-directory"]
    digests.mkdir()
    for digest in ("a" * 64, "b" * 64):
        (digests / digest).touch()
    environ = {
        "PATH": f"{tmp_path}:/usr/bin:/bin", "CALLS": str(tmp_path / "calls"), "VERSIONS": f"{others} {version}",
        "GITHUB_REPOSITORY": "Some/Repo", "GITHUB_REF_NAME": f"v{version}", "GITHUB_OUTPUT": str(tmp_path / "output"),
    }  # fmt: skip
    subprocess.run(["bash", "-e", "-o", "pipefail", "-c", join["run"]], cwd=digests, env=environ, check=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    (create,) = [call for call in calls if call.startswith("buildx imagetools create ")]
    assert re.findall(r"--tag ghcr.io/some/repo:(\S+)", create) == tags
    assert re.findall(r"ghcr.io/some/repo@sha256:(\S+)", create) == ["a" * 64, "b" * 64]
    assert {path.name for path in tmp_path.glob("sbom*")} == {"sbom-amd64.spdx.json", "sbom-arm64.spdx.json"}
    inspected = [call for call in calls if ".SPDX" in call]
    assert [re.findall(r'\(index \.SBOM "(\S+)"\)\.SPDX', call) for call in inspected] == [
        ["linux/amd64"], ["linux/arm64"],
    ]  # fmt: skip


def test_each_architecture_has_its_list_of_parts_kept() -> None:
    flow = WORKFLOWS["release.yml"]
    (join,) = [step for step in flow["jobs"]["publish"]["steps"] if step.get("id") == "join"]
    (kept,) = [
        step["with"]["path"] for step in flow["jobs"]["publish"]["steps"] if "upload-artifact@" in step.get("uses", "")
    ]
    built = [each["architecture"] for each in flow["jobs"]["image"]["strategy"]["matrix"]["include"]]
    loop = re.search(r"for architecture in (.+); do\n(.*?)\ndone", join["run"], re.DOTALL)
    assert loop is not None
    assert loop[1].split() == built
    # of an image for several platforms, `.SBOM` is no document: it has one under the name of each
    assert '{{ json (index .SBOM \\"linux/$architecture\\").SPDX }}' in loop[2]
    assert f'"../{kept.replace("*", "$architecture")}"' in loop[2]


def test_what_is_updated_each_week_is_there() -> None:
    files = {
        "github-actions": ".github/workflows",
        "pip": "pyproject.toml",
        "npm": "package.json",
        "docker": "Dockerfile",
    }
    updates = yaml.safe_load((GITHUB / "dependabot.yml").read_text())["updates"]
    assert {update["package-ecosystem"] for update in updates} == set(files)
    for update in updates:
        folder = update.get("directory") or update["directories"][0]
        assert (ROOT / folder.lstrip("/") / files[update["package-ecosystem"]]).exists()


@pytest.mark.needs_helm
@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", sorted((GITHUB / "workflows").glob("*.yml"))),
        ("custom.github-workflows-require-timeout", sorted((GITHUB / "workflows").glob("*.yml"))),
        ("vendor.dependabot", [GITHUB / "dependabot.yml"]),
    ],
)
def test_github_would_take_the_files(schema: str, files: list[Path]) -> None:
    done = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", schema, *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.needs_helm
def test_zizmor_finds_nothing_to_attack() -> None:
    command = [BIN / "zizmor", "--offline", "--no-config", "--persona=pedantic", "--strict-collection", GITHUB]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No findings to report" in done.stdout
