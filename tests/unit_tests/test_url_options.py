"""The options in the query of a Redis URL: accepted and converted in both variants, or refused by name."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from redis.credentials import CredentialProvider, UsernamePasswordCredentialProvider

from langchain_memstore import Memstore, RedisChatMessageHistory
from langchain_memstore.backends.redis.connections import Connections
from langchain_memstore.backends.redis.pool_makers import sentinel_pools, url_pools
from langchain_memstore.backends.redis.urls import settings_of

PLACES = {
    "server": "{scheme}://user:hunter2@host/0?{query}",
    "cluster": "{scheme}+cluster://user:hunter2@host:1,host:2?{query}",
    "sentinel": "{scheme}+sentinel://user:hunter2@host:1,host:2/service/0?{query}",
}
PROVIDER = UsernamePasswordCredentialProvider("user", "hunter2")


def connection(query: str, asynchronous: bool, scheme: str = "rediss", sentinel: bool = False) -> Any:
    """Make a connection of a URL with a query, which connects to nothing."""
    url = PLACES["sentinel" if sentinel else "server"].format(scheme=scheme, query=query)
    pools = (sentinel_pools if sentinel else url_pools)(url, settings_of({}))
    return pools(asynchronous).make_connection()


@pytest.mark.parametrize("sentinel", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_options_are_converted(asynchronous: bool, sentinel: bool) -> None:
    made = connection(
        "protocol=3&health_check_interval=7&socket_timeout=1.5&socket_connect_timeout=2&socket_keepalive=no&client_name=me"
        "&retry_on_timeout=true&socket_read_size=100&encoding=latin-1&decode_responses=false&db=3",
        asynchronous,
        "redis",
        sentinel,
    )
    assert (made.protocol, made.health_check_interval, made.socket_timeout, made.db) == (3, 7, 1.5, 3)
    assert (made.socket_connect_timeout, made.socket_keepalive, made.client_name) == (2, False, "me")
    assert (made.encoder.encoding, made.encoder.decode_responses, made.retry_on_timeout) == ("latin-1", False, True)


@pytest.mark.parametrize(
    ("query", "mode", "checks"),
    [
        ("", ssl.CERT_REQUIRED, True),
        ("ssl_cert_reqs=required", ssl.CERT_REQUIRED, True),
        ("ssl_cert_reqs=none", ssl.CERT_NONE, False),
        ("ssl_cert_reqs=CERT_NONE", ssl.CERT_NONE, False),
        ("ssl_cert_reqs=CERT_REQUIRED&ssl_check_hostname=false", ssl.CERT_REQUIRED, False),
        ("ssl_cert_reqs=Optional&ssl_check_hostname=1", ssl.CERT_OPTIONAL, True),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_is_checked_of_a_certificate(
    query: str, mode: ssl.VerifyMode, checks: bool, asynchronous: bool
) -> None:
    context = connection(query, asynchronous).line.tls.get()
    assert (context.verify_mode, context.check_hostname) == (mode, checks)


@pytest.mark.parametrize("text", ["TLSv1_2", "TLSv1.2", "tlsv1_2", "771", "TLSVersion.TLSv1_2"])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_the_oldest_version_of_tls(text: str, asynchronous: bool) -> None:
    query = f"ssl_min_version={text}&ssl_include_verify_flags=VERIFY_X509_STRICT,VERIFY_CRL_CHECK_LEAF&ssl_ciphers=HIGH"
    context = connection(query, asynchronous).line.tls.get()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF in context.verify_flags


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("ssl_cert_reqs=some", "ssl_cert_reqs that must be none, optional or required"),
        ("ssl_min_version=SSLv2", "ssl_min_version that must be TLSv1_2 or TLSv1_3"),
        ("ssl_min_version=7", "ssl_min_version"),
        ("ssl_check_hostname=perhaps", "ssl_check_hostname that must be true or false"),
        ("ssl_include_verify_flags=[NONE]", "ssl_include_verify_flags"),
        ("ssl_keyfile=key.pem", "ssl_keyfile, which needs ssl_certfile"),
        ("ssl_validate_ocsp=true", "ssl_validate_ocsp.*from_client"),
        ("ssl=true", "rediss://"),
        ("protocol=4", "protocol that must be 2 or 3"),
        ("protocol=three", "protocol that must be 2 or 3"),
        ("health_check_interval=abc", "health_check_interval that must be a number of seconds"),
        ("health_check_interval=-1", "health_check_interval"),
        ("socket_timeout=0", "socket_timeout that must be a positive number"),
        ("socket_timeout=nan", "socket_timeout"),
        ("socket_timeout=inf", "socket_timeout"),
        ("socket_keepalive=perhaps", "socket_keepalive that must be true or false"),
        ("max_connections=0", "max_connections that must be a whole number"),
        ("max_connections=many", "max_connections"),
        ("db=first", "db that must be the number of a database"),
        ("encoding=utf-9", "encoding that must be the name of an encoding"),
        ("encoding_errors=cry", "encoding_errors"),
        ("retry=3", "retry, which is a Python object.*from_client"),
        ("retry_on_error=x", "retry_on_error, which is a Python object"),
        ("redis_connect_func=x", "redis_connect_func, which is a Python object"),
        ("credential_provider=x", "credential_provider, which is a Python object.*keyword"),
        ("no_such=1", "not known: no_such"),
        ("no%20such=1", "whose name is not one"),
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_an_option_that_makes_no_sense_is_named(place: str, query: str, says: str) -> None:
    url = PLACES[place].format(scheme="rediss", query=query)
    for make in (Memstore.from_url, lambda url: RedisChatMessageHistory("session", url)):
        with pytest.raises(ValueError, match=says) as caught:
            make(url)
        assert "hunter2" not in str(caught.value) and url not in str(caught.value)


@pytest.mark.parametrize("place", PLACES)
def test_options_of_tls_need_tls(place: str) -> None:
    with pytest.raises(ValueError, match=r"ssl_ca_certs, which is for TLS.*rediss://"):
        Memstore.from_url(PLACES[place].format(scheme="redis", query="ssl_ca_certs=ca.pem"))


def test_a_cluster_has_no_other_database() -> None:
    with pytest.raises(ValueError, match="database 0"):
        Memstore.from_url("redis+cluster://host?db=3")
    Memstore.from_url("redis+cluster://host?db=0")


@pytest.mark.parametrize("place", PLACES)
def test_a_provider_of_credentials(place: str) -> None:
    url = PLACES[place].format(scheme="redis", query="")
    with pytest.raises(ValueError, match="and not both"):
        Memstore.from_url(url, credential_provider=PROVIDER)
    for wrong in ("hunter2", {"password": "hunter2"}, CredentialProvider):
        with pytest.raises(ValueError, match="credential_provider must be") as caught:
            Memstore.from_url(url.replace("user:hunter2@", ""), credential_provider=wrong)
        assert "hunter2" not in str(caught.value)
    Memstore.from_url(url, credential_provider=None)
    store = Memstore.from_url(url.replace("user:hunter2@", ""), credential_provider=PROVIDER)
    assert "redential" not in repr(store)


def test_connections_are_shared_by_those_who_have_one_provider() -> None:
    url, other = "redis://nowhere.invalid", UsernamePasswordCredentialProvider("user", "hunter2")
    made = [Connections.of_url(url, credential_provider=each) for each in (PROVIDER, PROVIDER, other, None)]
    assert made[0] is made[1]
    assert len({id(each) for each in (*made, Connections.of_url(url))}) == 3


@pytest.mark.parametrize("name", ["foo", "socket_timeout"])
@pytest.mark.parametrize("place", PLACES)
def test_an_option_without_a_value_is_named(place: str, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Memstore.from_url(PLACES[place].format(scheme="redis", query=f"{name}="))
