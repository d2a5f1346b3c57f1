"""What lies in `deploy` to be applied to a cluster."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.kubernetes import pod_spec, read

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm"
PLAIN = read(ROOT / "deploy" / "kubernetes")
KSERVE = read(ROOT / "deploy" / "kserve")
PODS = [
    pytest.param(pod, id=name)
    for name, resources in (PLAIN | KSERVE).items()
    for resource in resources
    if (pod := pod_spec(resource, resources)) is not None
]

each_pod = pytest.mark.parametrize("pod", PODS)


def the_service(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    return container
