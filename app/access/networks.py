"""Which addresses are one caller's."""

import functools
import ipaddress
import re

_PORT = re.compile(r"(?:(\d+\.\d+\.\d+\.\d+)|\[([^\]]*:[^\]]*)\]):\d+")
MAX_KNOWN = 4096


@functools.lru_cache(MAX_KNOWN)
def network_of(address: str) -> str:
    """Return what counts as one caller: of IPv6 the network of 64 bits that a customer gets, else the address.

    Whatever is no address, as a header may say, is taken as it is.
    """
    if (with_port := _PORT.fullmatch(address)) is not None:  # as some proxies write it
        address = with_port[1] or with_port[2]
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.strip("[]").partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
