"""Who can reach the service: where strangers can, it asks them for keys, or has been told that it need not."""

import ipaddress

from app.errors import SettingsError
from app.settings import Settings


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address. A name other than ``localhost`` may be anybody's."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def expect_guarded(settings: Settings) -> None:
    """Refuse to let strangers in by mistake.

    Raises:
        SettingsError: The service would listen beyond loopback, without keys, and nobody has said that it may.
    """
    if is_loopback(settings.host) or settings.api_keys_file is not None or settings.allow_anonymous:
        return
    beside = " (ZTO_ADMIN_KEY guards nothing but what operators do)" if settings.admin_key is not None else ""
    raise SettingsError(
        f"ZTO_HOST={settings.host!r} is reached from other machines, and nothing asks them for a key{beside}: set "
        "ZTO_API_KEYS_FILE (python -m app keys new makes one), or ZTO_ALLOW_ANONYMOUS=1 where everybody who can reach "
        "it may ask, as behind a platform that checks who comes"
    )
