"""Which addresses are asked at all: of known schemes, and never those that only a machine itself should ask.

Addresses come from files and variables of the user's. A file may come from somebody else, and an address in it would
have this machine ask what its author cannot: 169.254.169.254 hands the keys of a cloud machine to whoever asks there.
Names are taken as they are: what they stand for is known only when they are asked.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

HTTP = ("http", "https")
TRACKING = (*HTTP, "sqlite", "postgresql", "mysql", "mssql")
"""Schemes of an MLflow store, each also with a driver: `postgresql+psycopg2`. Its file store is refused by MLflow."""

_METADATA = ("metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal")
_METADATA_V6 = ipaddress.ip_network("fd00:ec2::/32")  # Amazon's, beside the link-local ones


def problem(address: str, schemes: Collection[str]) -> str:
    """Return why an address is not asked; "" where it may be.

    >>> problem("http://169.254.169.254/latest", HTTP)
    'a link-local address is not asked: it hands out the secrets of this machine'
    >>> problem("gopher://x", HTTP), problem("http://127.0.0.1:5000", HTTP)
    ('expected an address that begins with http:// or https://', '')
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "this is no address"
    if parts.scheme.partition("+")[0] not in schemes:
        return f"expected an address that begins with {' or '.join(f'{each}://' for each in schemes)}"
    if _is_local_to_the_link(host):
        return "a link-local address is not asked: it hands out the secrets of this machine"
    return ""


def _is_local_to_the_link(host: str) -> bool:
    name = host.rstrip(".").lower()
    try:
        found = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        try:
            found = ipaddress.ip_address(socket.inet_aton(name))  # 2852039166, 0xa9fea9fe: 169.254.169.254
        except (OSError, ValueError):
            return name in _METADATA
    if isinstance(found, ipaddress.IPv6Address):
        if found in _METADATA_V6:
            return True
        found = found.ipv4_mapped or found
    return found.is_link_local
