"""What a Redis URL and the options of a connection say, checked."""

from __future__ import annotations

import re
import socket
from typing import Any, NamedTuple
from urllib.parse import unquote

import redis.connection
from redis.credentials import CredentialProvider

from langchain_memstore.backends.redis.sentinel import Address
from langchain_memstore.backends.redis.url_options import read_options
from langchain_memstore.options import ConnectionOptions, check_count, check_seconds

SERVER_SCHEMES = ("redis://", "rediss://", "unix://")
SENTINEL_SCHEMES = ("redis+sentinel://", "rediss+sentinel://")
CLUSTER_SCHEMES = ("redis+cluster://", "rediss+cluster://")
SCHEMES = (*SERVER_SCHEMES, *CLUSTER_SCHEMES, *SENTINEL_SCHEMES)
_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in (
        ("TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE", 60),  # the latter on macOS
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
    )
    if hasattr(socket, name)
}
"""TCP keepalive: after a minute's silence every 10 seconds; without an answer to three the connection is dead."""


def settings_of(options: ConnectionOptions) -> dict[str, Any]:
    """Return the options of a connection, checked and complete."""
    settings: dict[str, Any] = {"max_connections": 20, "socket_timeout": 5.0, "socket_connect_timeout": 5.0, **options}
    check_count("max_connections", settings["max_connections"])
    check_seconds("socket_timeout", settings["socket_timeout"])
    check_seconds("socket_connect_timeout", settings["socket_connect_timeout"])
    if not isinstance(provider := settings.get("credential_provider"), (CredentialProvider, type(None))):
        raise ValueError(f"credential_provider must be a redis.credentials.CredentialProvider, not {type(provider)}")
    return settings


def shared_key(url: str, settings: dict[str, Any]) -> tuple[Any, ...]:
    """Return what connections are shared by: a URL and settings."""
    provider = settings.get("credential_provider")  # which may not be hashable
    return (url, *sorted({**settings, "credential_provider": id(provider)}.items()))


class ManyHosts(NamedTuple):
    """A URL that names many hosts, taken apart."""

    scheme: str
    """How each of the hosts is reached: `redis://` or `rediss://`."""
    login: str
    """The user name and the password, as in the URL, with the `@`."""
    hosts: list[Address]
    """The hosts and ports."""
    path: list[str]
    """What follows the hosts, up to the query."""
    query: str
    """The query, with its question mark."""

    def node_url(self, address: Address, path: str = "") -> str:
        """Return the URL of one server."""
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        return f"{self.scheme}{self.login}{host}:{address[1]}{path}{self.query}"


_HOST = re.compile(r"(\[[^\]]+\]|[^\[\]:]+)(?::(\d{1,5}))?")


def parse_hosts(url: str, default_port: int) -> ManyHosts:
    """Take a URL apart that names many hosts: `redis+cluster://user:password@host:port,host:port?option=value`.

    Raises:
        ValueError: The URL cannot be read; the error does not quote it.
    """
    scheme, _, rest = url.partition("://")
    rest, question, query = rest.partition("?")
    places, _, path = rest.partition("/")
    login, at, places = places.rpartition("@")
    hosts = [_HOST.fullmatch(place) for place in places.split(",")]
    if not all(hosts):
        raise ValueError(f"the Redis URL must name its hosts: {scheme}://host:port,host:port")
    addresses = [(match[1].strip("[]"), int(match[2] or default_port)) for match in hosts if match]
    names = [unquote(part) for part in path.split("/") if part]
    return ManyHosts(f"{scheme.partition('+')[0]}://", login + at, addresses, names, question + query)


def read_url(url: str, settings: dict[str, Any], sentinel: bool = False) -> dict[str, Any]:
    """Return how to connect to the server of a URL: what it says goes before other settings.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with redis-py's own query options.
        settings: What `settings_of` returns.
        sentinel: Whether it is that of a sentinel, and may say how to log in there.

    Raises:
        ValueError: The URL makes no sense; the error does not quote it.
    """
    place, _, query = url.partition("?")
    try:
        parsed = dict(redis.connection.parse_url(place))  # type: ignore[no-untyped-call]
    except ValueError:  # its text may quote the password
        parsed = {}
    if not place.startswith(SERVER_SCHEMES):
        raise ValueError(f"the Redis URL must start with one of {', '.join(SCHEMES)}")
    if not parsed:
        raise ValueError(
            "the Redis URL cannot be read; percent-encode special characters in its user name and password"
        )
    options = read_options(query.partition("#")[0], tls=place.startswith("rediss"), sentinel=sentinel)
    if "db" in options:
        parsed.pop("db", None)
    if parsed.pop("connection_class", None) is redis.connection.UnixDomainSocketConnection:
        keepalive = {}
    else:
        keepalive = {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    read = {**keepalive, **settings, **options, **parsed}
    if read.get("credential_provider") is None:
        read.pop("credential_provider", None)
    elif "username" in read or "password" in read:
        raise ValueError("pass credential_provider, or a user name and a password in the Redis URL, and not both")
    return read
