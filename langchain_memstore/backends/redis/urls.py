"""How connection pools are made: from a URL, for the master that sentinels name, or like one that was lent."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

import redis
import redis.asyncio
import redis.asyncio.connection as aio
import redis.connection as sync
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from langchain_memstore._version import __version__
from langchain_memstore.backends.redis.sentinel import Address, AsyncSentinelPool, SentinelPool
from langchain_memstore.options import ConnectionOptions, check_count, check_seconds

SERVER_SCHEMES = ("redis://", "rediss://", "unix://")
SENTINEL_SCHEMES = ("redis+sentinel://", "rediss+sentinel://")
CLUSTER_SCHEMES = ("redis+cluster://", "rediss+cluster://")
SCHEMES = (*SERVER_SCHEMES, *CLUSTER_SCHEMES, *SENTINEL_SCHEMES)
HEALTH_CHECK_INTERVAL = 30  # seconds that a connection may idle before it is tried before use

MakePool = Callable[[bool], Any]
"""Makes a connection pool: for the running event loop where its argument is True, else for threads."""


def settings_of(options: ConnectionOptions) -> dict[str, Any]:
    """Return the options of a connection, checked and complete."""
    settings: dict[str, Any] = {"max_connections": 20, "socket_timeout": 5.0, "socket_connect_timeout": 5.0, **options}
    check_count("max_connections", settings["max_connections"])
    check_seconds("socket_timeout", settings["socket_timeout"])
    check_seconds("socket_connect_timeout", settings["socket_connect_timeout"])
    return settings


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


def url_pools(url: str, settings: dict[str, Any]) -> MakePool:
    """Return what makes the pools of one server.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with redis-py's own query options.
        settings: What `settings_of` returns.

    Raises:
        ValueError: The URL makes no sense; the error does not quote it.
    """
    _parse(url)
    if not url.startswith("unix"):
        settings = {**settings, "socket_keepalive": True}

    def make(asynchronous: bool) -> Any:
        return (aio if asynchronous else sync).BlockingConnectionPool.from_url(
            url, **settings, **_patient(asynchronous), health_check_interval=HEALTH_CHECK_INTERVAL
        )

    return _checked(make)


def sentinel_pools(url: str, settings: dict[str, Any]) -> MakePool:
    """Return what makes the pools of a service's master, which its sentinels name.

    Args:
        url: `redis+sentinel://user:password@host:port,host:port/service/db`, or `rediss+sentinel://` for TLS; with
            redis-py's own query options, and `sentinel_username` and `sentinel_password` for the sentinels.
        settings: What `settings_of` returns.

    Raises:
        ValueError: The URL makes no sense; the error does not quote it.
    """
    parts = parse_hosts(url, 26379)
    if not 1 <= len(parts.path) <= 2 or not all(part.isdecimal() for part in parts.path[1:]):
        raise ValueError("the Redis URL must name a service: redis+sentinel://host:port,host:port/service/db")
    service, *db = parts.path
    options = _parse(parts.node_url(parts.hosts[0], f"/{db[0] if db else 0}"))
    options = {**options, **settings, "socket_keepalive": True}
    for name in ("host", "port", "connection_class"):
        options.pop(name, None)
    login = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    is_tls = parts.scheme == "rediss://"
    asked = {**login, **tls, "ssl": is_tls, "socket_keepalive": True}
    asked |= {name: settings[name] for name in ("socket_timeout", "socket_connect_timeout")}
    return _checked(lambda asynchronous: _sentinel_pool(asynchronous, service, parts.hosts, asked, options, is_tls))


def pool_like(lent: weakref.ref[Any], asynchronous: bool) -> Any:
    """Make a pool with the settings of one that was lent.

    Raises:
        ValueError: Connections of that kind cannot be made for the other variant.
    """
    pool: Any = lent()
    settings = common_settings(pool.connection_kwargs)
    settings["max_connections"] = min(pool.max_connections, 20)
    for twins in _TWINS:
        if pool.connection_class in twins:
            return (aio if asynchronous else sync).BlockingConnectionPool(
                connection_class=twins[asynchronous], **settings, **_patient(asynchronous)
            )
    if hasattr(pool, "sentinel_manager") and pool.is_master:
        clients = [sentinel.connection_pool for sentinel in pool.sentinel_manager.sentinels]
        asked = common_settings(clients[0].connection_kwargs)
        hosts = [(asked_pool.connection_kwargs["host"], asked_pool.connection_kwargs["port"]) for asked_pool in clients]
        asked["ssl"] = issubclass(clients[0].connection_class, (sync.SSLConnection, aio.SSLConnection))
        is_tls = issubclass(pool.connection_class, (sync.SSLConnection, aio.SSLConnection))
        return _sentinel_pool(asynchronous, pool.service_name, hosts, asked, settings, is_tls)
    missing = "async_client=redis.asyncio.Redis(...)" if asynchronous else "redis_client=redis.Redis(...)"
    raise ValueError(f"connections of {pool.connection_class.__name__} have no twin; pass {missing} too")


_TWINS = (
    (sync.Connection, aio.Connection),
    (sync.SSLConnection, aio.SSLConnection),
    (sync.UnixDomainSocketConnection, aio.UnixDomainSocketConnection),
)
# What a connection for threads and one for an event loop understand alike, beside what starts with `ssl_`.
_COMMON = {"host", "port", "path", "db", "username", "password", "credential_provider", "protocol", "client_name"}
_COMMON |= {"socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options"}
_COMMON |= {"health_check_interval"}


def common_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return those of a connection's settings that both variants understand."""
    return {name: value for name, value in settings.items() if name in _COMMON or name.startswith("ssl_")}


def node_pools(address: Address, settings: dict[str, Any], is_tls: bool) -> MakePool:
    """Return what makes the pools of one server, by its address and common settings."""
    settings = {**settings, "host": address[0], "port": address[1]}
    return lambda asynchronous: (aio if asynchronous else sync).BlockingConnectionPool(
        connection_class=_TWINS[is_tls][asynchronous], **settings, **_patient(asynchronous)
    )


def _sentinel_pool(
    asynchronous: bool,
    service: str,
    hosts: list[Address],
    asked: dict[str, Any],
    settings: dict[str, Any],
    is_tls: bool,
) -> Any:
    """Make the pool of a service's master. Nothing connects yet.

    Args:
        asynchronous: For which variant.
        service: What the sentinels call the service.
        hosts: Where the sentinels are.
        asked: How to connect to the sentinels.
        settings: How to connect to the master.
        is_tls: Whether that is over TLS.
    """
    make_manager: Any = redis.asyncio.Sentinel if asynchronous else redis.Sentinel
    make_pool: Any = AsyncSentinelPool if asynchronous else SentinelPool
    patient = _patient(asynchronous)
    del patient["timeout"]  # these pools do not wait; the backend does
    asked = {name: value for name, value in asked.items() if name not in ("host", "port", "db")}
    settings = {name: value for name, value in settings.items() if name not in ("host", "port")}
    manager = make_manager(hosts, sentinel_kwargs={**asked, "retry": patient["retry"]})
    return make_pool(
        service, manager, ssl=is_tls, **{"health_check_interval": HEALTH_CHECK_INTERVAL, **settings}, **patient
    )


def _patient(asynchronous: bool) -> dict[str, Any]:
    """Return what all pools have in common: they wait for a free connection, and leave trying again to the backend."""
    return {"timeout": None, "retry": (AsyncRetry if asynchronous else Retry)(NoBackoff(), 0), **_identity()}


def _identity() -> dict[str, Any]:
    """Name this package to the server; without it redis-py reads its own version from disk when it connects."""
    if hasattr(redis, "DriverInfo"):
        return {"driver_info": redis.DriverInfo(name="langchain-memstore", lib_version=__version__)}
    return {"lib_name": "langchain-memstore", "lib_version": __version__}


def _parse(url: str) -> dict[str, Any]:
    try:
        return dict(sync.parse_url(url))  # type: ignore[no-untyped-call]
    except ValueError:  # its text may quote the password
        pass
    if not url.startswith(SERVER_SCHEMES):
        raise ValueError(f"the Redis URL must start with one of {', '.join(SCHEMES)}")
    raise ValueError("the Redis URL cannot be read; percent-encode special characters in its user name and password")


def _checked(make: MakePool) -> MakePool:
    """Check that connections can be made; nothing connects yet."""
    try:
        make(False).make_connection()
    except TypeError as error:
        unknown = str(error).rpartition("argument ")[2]
        raise ValueError(f"the Redis URL has an option that redis-py does not know: {unknown}") from None
    return make
