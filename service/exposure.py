"""Whether the server may listen where it is told to: an address that others reach needs keys."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from service.settings import Settings


def check_exposure(settings: Settings, *, has_keys: bool) -> str | None:
    """Why the server must not start, or None."""
    if not needs_keys(settings) or has_keys:
        return None
    return (
        f"{settings.host} can be reached from other machines and no API key exists: create one first "
        f"(nidim keys create --name admin --scope admin --data-dir {settings.data_dir}), set NIDIM_BOOTSTRAP_KEY "
        "(nk_ and at least 32 random characters), or listen on 127.0.0.1."
    )


def needs_keys(settings: Settings) -> bool:
    """Whether keys must exist already: others reach the address, and the settings bring no first key."""
    return not is_loopback(settings.host) and settings.bootstrap_key is None


@lru_cache(maxsize=1024)  # asked twice a request
def is_loopback(host: str) -> bool:
    """Whether ``host`` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
