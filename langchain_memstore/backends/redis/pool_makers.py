"""How connection pools are made: from a URL, for the master that sentinels name, or like one that was lent."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.connection as aio
import redis.connection as sync
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from langchain_memstore._version import __version__
from langchain_memstore.backends.redis.lines import OWN_CONNECTIONS, Line
from langchain_memstore.backends.redis.masters import AsyncSentinelPool, SentinelPool
from langchain_memstore.backends.redis.sentinel import ANSWER_WITHIN, Address
from langchain_memstore.backends.redis.tls import Tls
from langchain_memstore.backends.redis.url_options import OCSP
from langchain_memstore.backends.redis.urls import parse_hosts, read_url

MakePool = Callable[[bool], Any]
"""Makes a connection pool: for the running event loop where its argument is True, else for threads."""


def url_pools(url: str, settings: dict[str, Any]) -> MakePool:
    """Return what makes the pools of one server.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with redis-py's own query options.
        settings: What `settings_of` returns.

    Raises:
        ValueError: The URL makes no sense; the error does not quote it.
    """
    return _checked(_server_pools(read_url(url, settings), url.startswith("rediss")))


def node_pools(address: Address, settings: dict[str, Any], is_tls: bool) -> MakePool:
    """Return what makes the pools of one server, by its address and common settings."""
    return _server_pools({**settings, "host": address[0], "port": address[1]}, is_tls)


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
    options = read_url(parts.node_url(parts.hosts[0], f"/{db[0] if db else 0}"), settings, sentinel=True)
    login = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    asked = {name: value for name, value in options.items() if name.startswith(("socket_", "ssl_"))} | login
    is_tls = parts.scheme == "rediss://"
    return _checked(
        lambda asynchronous: _sentinel_pool(asynchronous, service, parts.hosts, asked, is_tls, options, is_tls)
    )


def pool_like(lent: weakref.ref[Any], asynchronous: bool) -> Any:
    """Make a pool with the settings of one that was lent.

    Raises:
        ValueError: Connections of that kind cannot be made for the other variant.
    """
    pool: Any = lent()
    settings = common_settings(pool.connection_kwargs)
    settings["max_connections"] = min(pool.max_connections, 20)
    if (is_tls := _KINDS.get(pool.connection_class)) is not None:
        return _server_pools(settings, is_tls)(asynchronous)
    if hasattr(pool, "sentinel_manager") and pool.is_master:
        clients = [sentinel.connection_pool for sentinel in pool.sentinel_manager.sentinels]
        asked = common_settings(clients[0].connection_kwargs)
        hosts = [(asked_pool.connection_kwargs["host"], asked_pool.connection_kwargs["port"]) for asked_pool in clients]
        is_tls, asked_is_tls = (issubclass(each.connection_class, _TLS_KINDS) for each in (pool, clients[0]))
        return _sentinel_pool(asynchronous, pool.service_name, hosts, asked, asked_is_tls, settings, is_tls)
    missing = "async_client=redis.asyncio.Redis(...)" if asynchronous else "redis_client=redis.Redis(...)"
    raise ValueError(f"connections of {pool.connection_class.__name__} have no twin; pass {missing} too")


_TLS_KINDS = (sync.SSLConnection, aio.SSLConnection)
_KINDS: dict[type, bool] = {
    **dict.fromkeys((sync.Connection, aio.Connection), False),
    **dict.fromkeys((sync.UnixDomainSocketConnection, aio.UnixDomainSocketConnection), False),
    **dict.fromkeys(_TLS_KINDS, True),
}
"""redis-py's connections, and whether they use TLS."""
# What a connection for threads and one for an event loop understand alike, beside what starts with `ssl_`.
_COMMON = {"host", "port", "path", "db", "username", "password", "credential_provider", "protocol", "client_name"}
_COMMON |= {"socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options"}
_COMMON |= {"health_check_interval"}


def common_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return those of a connection's settings that both variants understand.

    Raises:
        ValueError: It asks whether certificates were revoked, which one variant would leave out.
    """
    if any(settings.get(name) for name in OCSP):
        raise ValueError(
            f"a client with {' or '.join(OCSP)} has no twin for an event loop; pass an async_client too, and no "
            "RedisCluster"
        )
    return {
        name: value
        for name, value in settings.items()
        if name in _COMMON or (name.startswith("ssl_") and not name.startswith(("ssl_validate_ocsp", "ssl_ocsp")))
    }


def _server_pools(settings: dict[str, Any], is_tls: bool) -> MakePool:
    """Return what makes the pools of one server. Nothing connects yet.

    Args:
        settings: How to connect; with a `path`, over a Unix socket.
        is_tls: Whether that is over TLS.
    """
    reached, line = _parted(settings, is_tls)

    def make(asynchronous: bool) -> Any:
        variant = aio if asynchronous else sync
        options = {**_patient(asynchronous), **reached}
        if "path" in options:
            return variant.BlockingConnectionPool(connection_class=variant.UnixDomainSocketConnection, **options)
        kind = OWN_CONNECTIONS[is_tls][asynchronous]
        return variant.BlockingConnectionPool(connection_class=kind, line=line, **options)

    return make


def _sentinel_pool(
    asynchronous: bool,
    service: str,
    hosts: list[Address],
    asked: dict[str, Any],
    asked_is_tls: bool,
    settings: dict[str, Any],
    is_tls: bool,
) -> Any:
    """Make the pool of a service's master. Nothing connects yet.

    Args:
        asynchronous: For which variant.
        service: What the sentinels call the service.
        hosts: Where the sentinels are.
        asked: How to connect to the sentinels.
        asked_is_tls: Whether that is over TLS.
        settings: How to connect to the master.
        is_tls: Whether that is over TLS.
    """
    patient = _patient(asynchronous)
    del patient["timeout"]  # these pools do not wait; the backend does
    others = ("host", "port", "db", "health_check_interval")
    asked = {name: value for name, value in asked.items() if name not in others}
    for name in ("socket_timeout", "socket_connect_timeout"):
        asked[name] = min(asked.get(name) or ANSWER_WITHIN, ANSWER_WITHIN)
    make_client: Any = redis.asyncio.Redis if asynchronous else redis.Redis
    make_pool: Any = (aio if asynchronous else sync).ConnectionPool
    reached, line = _parted(asked, asked_is_tls)
    kind = OWN_CONNECTIONS[asked_is_tls][asynchronous]
    clients = [
        make_client(
            connection_pool=make_pool(connection_class=kind, line=line, host=host, port=port, **reached, **patient)
        )
        for host, port in hosts
    ]
    reached, line = _parted({name: value for name, value in settings.items() if name not in ("host", "port")}, is_tls)
    options = {**patient, **reached}
    return (AsyncSentinelPool if asynchronous else SentinelPool)(service, clients, is_tls, line=line, **options)


def _parted(settings: dict[str, Any], is_tls: bool) -> tuple[dict[str, Any], Line]:
    """Part the settings of a connection from what they say of TLS."""
    reached = {name: value for name, value in settings.items() if not name.startswith("ssl_")}
    return reached, Line(Tls(settings) if is_tls else None)


def _patient(asynchronous: bool) -> dict[str, Any]:
    """Return what all pools have in common: they wait for a free connection, and leave trying again to the backend."""
    return {"timeout": None, "retry": (AsyncRetry if asynchronous else Retry)(NoBackoff(), 0), **_identity()}


def _identity() -> dict[str, Any]:
    """Name this package to the server; without it redis-py reads its own version from disk when it connects."""
    if hasattr(redis, "DriverInfo"):
        return {"driver_info": redis.DriverInfo(name="langchain-memstore", lib_version=__version__)}
    return {"lib_name": "langchain-memstore", "lib_version": __version__}


def _checked(make: MakePool) -> MakePool:
    """Check that connections can be made; nothing connects yet."""
    try:
        make(False).make_connection()
    except TypeError as error:
        unknown = str(error).rpartition("argument ")[2]
        raise ValueError(f"the Redis URL has an option that its scheme, or this redis-py, lacks: {unknown}") from None
    return make
