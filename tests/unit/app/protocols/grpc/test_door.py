import pytest

from app.protocols.grpc.door import address_of


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:56410", "127.0.0.1"),
        ("ipv6:%5B::1%5D:56410", "::1"),
        ("ipv6:[2001:db8::1]:1", "2001:db8::1"),
        ("unix:", "unix:"),
    ],
)
def test_a_client_is_its_address_as_over_http(peer: str, address: str) -> None:
    assert address_of(peer) == address
