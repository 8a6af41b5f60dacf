"""The options in the query of a Redis URL: which there are, and what each may be."""

from __future__ import annotations

import codecs
import math
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from langchain_memstore.backends.redis.tls import CERT_REQS

_TRUE, _FALSE = ("1", "t", "true", "y", "yes", "on"), ("0", "f", "false", "n", "no", "off")
_VERSIONS = {
    "tlsv1": ssl.TLSVersion.TLSv1,
    "tlsv1_1": ssl.TLSVersion.TLSv1_1,
    "tlsv1_2": ssl.TLSVersion.TLSv1_2,
    "tlsv1_3": ssl.TLSVersion.TLSv1_3,
}


class Kind(NamedTuple):
    """What an option may be."""

    says: str
    """The same in words."""
    read: Callable[[str], Any]
    """Returns what redis-py takes; raises ValueError or LookupError for what it may not be."""


def _boolean(text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ValueError
    return text.lower() in _TRUE


def _at_least(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise ValueError
        return int(text)

    return read


def _seconds(text: str) -> float:
    if not 0 < (seconds := float(text)) < math.inf:
        raise ValueError
    return seconds


def _interval(text: str) -> float:
    return 0 if float(text) == 0 else _seconds(text)


def _protocol(text: str) -> int:
    if text not in ("2", "3"):
        raise ValueError
    return int(text)


def _encoding(text: str) -> str:
    codecs.lookup(text)
    return text


def _handler(text: str) -> str:
    codecs.lookup_error(text)
    return text


def _requirement(text: str) -> str:
    name = text.lower().removeprefix("cert_")
    CERT_REQS[name]
    return name


def _version(text: str) -> ssl.TLSVersion:
    name = text.lower().removeprefix("tlsversion.").replace(".", "_")
    return ssl.TLSVersion(int(name)) if name.isdecimal() else _VERSIONS[name]


def _flags(text: str) -> list[ssl.VerifyFlags]:
    return [ssl.VerifyFlags[name.strip()] for name in text.strip("[]").split(",")]


_BOOLEAN = Kind("true or false", _boolean)
_TEXT = Kind("a text", str)
_COUNT = Kind("a whole number of at least 1", _at_least(1))
_SECONDS = Kind("a positive number of seconds", _seconds)
_FLAGS = Kind("names of ssl.VerifyFlags, separated by commas", _flags)

_OPTIONS: dict[str, Kind] = {
    **dict.fromkeys(("host", "path", "username", "password", "client_name", "lib_name", "lib_version"), _TEXT),
    **dict.fromkeys(("socket_timeout", "socket_connect_timeout", "timeout"), _SECONDS),
    **dict.fromkeys(("socket_keepalive", "retry_on_timeout", "decode_responses", "legacy_responses"), _BOOLEAN),
    **dict.fromkeys(("max_connections", "socket_read_size"), _COUNT),
    "port": Kind("the number of a port", _at_least(1)),
    "db": Kind("the number of a database", _at_least(0)),
    "protocol": Kind("2 or 3", _protocol),
    "health_check_interval": Kind("a number of seconds; 0: never", _interval),
    "encoding": Kind("the name of an encoding", _encoding),
    "encoding_errors": Kind("the name of an error handler", _handler),
}
_TLS: dict[str, Kind] = {
    **dict.fromkeys(("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"), Kind("the path of a file", str)),
    **dict.fromkeys(("ssl_ca_data", "ssl_password", "ssl_ciphers"), _TEXT),
    **dict.fromkeys(("ssl_include_verify_flags", "ssl_exclude_verify_flags"), _FLAGS),
    "ssl_cert_reqs": Kind("none, optional or required", _requirement),
    "ssl_check_hostname": _BOOLEAN,
    "ssl_min_version": Kind("TLSv1_2 or TLSv1_3", _version),
}
_SENTINEL = dict.fromkeys(("sentinel_username", "sentinel_password"), _TEXT)
_OBJECTS = {
    "cache",
    "cache_config",
    "command_packer",
    "connection_class",
    "credential_provider",
    "driver_info",
    "encoder_class",
    "event_dispatcher",
    "maint_notifications_config",
    "parser_class",
    "queue_class",
    "redis_connect_func",
    "retry",
    "retry_on_error",
    "socket_keepalive_options",
    "socket_type",
}
OCSP = ("ssl_validate_ocsp", "ssl_validate_ocsp_stapled")
"""Options by which redis-py's connections for threads, and no others, ask whether a certificate was revoked."""


def read_options(query: str, *, tls: bool, sentinel: bool = False) -> dict[str, Any]:
    """Return the options of a URL's query, as redis-py takes them.

    Args:
        query: What follows the question mark.
        tls: Whether the URL is for TLS.
        sentinel: Whether it names sentinels.

    Raises:
        ValueError: There is no such option, or it may not be what it is; the error names it, and quotes no value.
    """
    known = {**_OPTIONS, **_TLS, **(_SENTINEL if sentinel else {})}
    options: dict[str, Any] = {}
    for name, (text, *_) in parse_qs(query, keep_blank_values=True).items():
        if (kind := known.get(name)) is None:
            raise ValueError(f"the Redis URL has an option {_why_not(name)}")
        if name in _TLS and not tls:
            raise ValueError(f"the Redis URL has the option {name}, which is for TLS; its scheme must be rediss://")
        try:
            options[name] = kind.read(text)
        except (ValueError, LookupError):
            raise ValueError(f"the Redis URL has an option {name} that must be {kind.says}") from None
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ValueError("the Redis URL has the option ssl_keyfile, which needs ssl_certfile")
    return options


def _why_not(name: str) -> str:
    if name == "credential_provider":
        return "credential_provider, which is a Python object; pass it as a keyword, credential_provider=..."
    if name in _OBJECTS:
        return f"{name}, which is a Python object; pass a client that has it to from_client"
    if name in OCSP or name.startswith("ssl_ocsp_"):
        return f"{name}, which only redis-py's connections for threads have; pass a client that has it to from_client"
    if name == "ssl":
        return "ssl; for TLS its scheme must be rediss://"
    return f"that is not known: {name}" if name.isidentifier() else "whose name is not one"
