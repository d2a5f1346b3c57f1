"""Who can reach the service: where strangers can, it asks them for keys, or has been told that it need not."""

import ipaddress
from collections.abc import Mapping

from app.errors import SettingsError
from app.settings import CALLERS_KEY, Settings


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address. A name other than ``localhost`` may be anybody's."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def expect_guarded(settings: Settings, environ: Mapping[str, str]) -> None:
    """Refuse to let strangers in by mistake.

    Args:
        settings: Of the service.
        environ: Where they come from.

    Raises:
        SettingsError: The service would listen beyond loopback, without keys, and nobody has said that it may; or it
            was given a caller's key, as if that were to be asked for.
    """
    if CALLERS_KEY in environ and settings.api_keys_file is None:
        raise SettingsError(
            f"{CALLERS_KEY} is what predict and bench send, and guards nothing: set ZTO_API_KEYS_FILE (python -m app "
            "keys new makes one), or unset it to serve without keys"
        )
    if is_loopback(settings.host) or settings.api_keys_file is not None or settings.allow_anonymous:
        return
    beside = " (ZTO_ADMIN_KEY guards nothing but what operators do)" if settings.admin_key is not None else ""
    raise SettingsError(
        f"ZTO_HOST={settings.host!r} is reached from other machines, and nothing asks them for a key{beside}: set "
        "ZTO_API_KEYS_FILE (python -m app keys new makes one), or ZTO_ALLOW_ANONYMOUS=1 where everybody who can reach "
        "it may ask, as behind a platform that checks who comes"
    )
