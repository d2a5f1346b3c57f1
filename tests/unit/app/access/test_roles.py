"""What role a path needs; the doors themselves are asked by tests/integration/test_every_door.py."""

import pytest

from app.access.roles import Paths, Role, is_of_operators


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("POST", "/predict/cnn", Role.PREDICT),
        ("POST", "/nowhere", Role.PREDICT),
        ("POST", "/livez/more", Role.PREDICT),
        ("GET", "/nowhere", Role.READ),
        ("GET", "/readyz", None),
        ("HEAD", "/healthy", None),
        ("POST", "/healthy", Role.PREDICT),
        ("POST", "/ping", Role.PREDICT),
        ("PUT", "/v2/models/cnn/ready", Role.READ),
        ("GET", "/readyz/", Role.READ),
        ("GET", "/v2/models/cnn/ready", None),
        ("GET", "/v2/models/cnn/versions/2/ready", None),
        ("GET", "/v2/models/a/b/c/ready", Role.READ),
        ("GET", "/ready", Role.READ),
        ("GET", "/admin/models/cnn", Role.ADMIN),
        ("GET", "/admin", Role.ADMIN),
        ("GET", "/administrators", Role.READ),
        ("POST", "/v2/repository/index", Role.ADMIN),
        ("GET", "/v2/repository/models/x/ready", Role.ADMIN),
    ],
)
def test_each_path_needs_one_role_and_probes_none(method: str, path: str, role: Role | None) -> None:
    assert Paths("/healthy").role(method, path) is role
    assert is_of_operators(path) == (role is Role.ADMIN)


def test_route_of_a_platform_is_no_probe_where_nobody_named_it() -> None:
    assert Paths().role("GET", "/healthy") is Role.READ
