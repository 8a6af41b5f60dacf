"""TLS contexts of connections, and what is wrong with a configuration of TLS."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

PROBE_TIME = 0.5  # seconds that a server has to show which protocol it speaks

CERT_REQS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_MISMATCH = (62, 64)  # what OpenSSL calls X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED

NO_TLS = "the server does not speak TLS at this port; the URL scheme for it is redis://, or a client without ssl=True"
ONLY_TLS = "the server speaks TLS at this port; the URL scheme for it is rediss://, or a client with ssl=True"


class TlsFailed(RedisConnectionError):
    """TLS fails, or one side speaks it and the other does not; the text names the option to look at."""


class Tls:
    """How to reach a server over TLS.

    All connections share one context, for it takes 20 ms to make one. It is made anew when one of its files changes, as
    when a certificate is renewed.

    Args:
        options: redis-py's options of a connection; those that start with `ssl_` count.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = {name: value for name, value in options.items() if name.startswith("ssl_")}
        self._context: ssl.SSLContext | None = None
        self._stamps: list[tuple[int, int]] = []

    def get(self) -> ssl.SSLContext:
        """Return the context.

        Raises:
            TlsFailed: It cannot be made.
        """
        stamps = [_stamp(name, path) for name in _FILES if (path := self._options.get(name))]
        if self._context is None or stamps != self._stamps:
            self._context, self._stamps = self._make(), stamps
        return self._context

    def _make(self) -> ssl.SSLContext:
        get = self._options.get
        context = ssl.create_default_context()
        required = get("ssl_cert_reqs", "required")
        verify = CERT_REQS[required] if isinstance(required, str) else required or ssl.CERT_NONE
        context.check_hostname = verify != ssl.CERT_NONE and get("ssl_check_hostname", True)
        context.verify_mode = verify
        for flag in get("ssl_include_verify_flags") or ():
            context.verify_flags |= flag
        for flag in get("ssl_exclude_verify_flags") or ():
            context.verify_flags &= ~flag
        if (oldest := get("ssl_min_version")) is not None:
            context.minimum_version = oldest
        option = "ssl_certfile, ssl_keyfile or ssl_password"
        try:
            if certificate := get("ssl_certfile"):  # without a password OpenSSL asks for one at the terminal
                context.load_cert_chain(certificate, get("ssl_keyfile"), get("ssl_password") or "")
            option = "ssl_ca_certs, ssl_ca_path or ssl_ca_data"
            authorities = [get(f"ssl_ca_{name}") or None for name in ("certs", "path", "data")]
            if any(authorities):
                context.load_verify_locations(*authorities)
            option = "ssl_ciphers"
            if ciphers := get("ssl_ciphers"):
                context.set_ciphers(ciphers)
        except OSError as error:
            raise TlsFailed(f"{option} cannot be used: {error}") from error
        return context


def _stamp(name: str, path: str) -> tuple[int, int]:
    """Return what changes when a file does."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise TlsFailed(f"{name} names what cannot be read: {path!r}: {error.strerror}") from error
    return found.st_mtime_ns, found.st_size


def explain(error: BaseException | None) -> str | None:
    """Say what is wrong with the configuration; None: an error that says nothing of it."""
    if not isinstance(error, ssl.SSLError):
        return None
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        told = error.verify_message.rstrip(".")
        if error.verify_code in _MISMATCH:
            way = "reach the server by a name that its certificate has, or pass ssl_check_hostname=false"
            return f"the server's certificate is for another host: {told}; {way}"
        if error.verify_code == _EXPIRED:
            return f"the server's certificate, or its authority's, is not valid any more: {told}; see ssl_ca_certs"
        return f"the server's certificate cannot be verified: {told}; ssl_ca_certs names the file of its authority"
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"):
        return NO_TLS
    if "ALERT" in reason and ("CERT" in reason or "UNKNOWN_CA" in reason or "ACCESS_DENIED" in reason):
        return f"the server refuses the client's certificate, or its lack ({reason}); see ssl_certfile and ssl_keyfile"
    if reason.endswith(("HANDSHAKE_FAILURE", "PROTOCOL_VERSION", "INSUFFICIENT_SECURITY")) or (
        reason in ("UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE")
    ):
        return f"client and server have nothing of TLS in common ({reason}); see ssl_min_version and ssl_ciphers"
    return None


def probe(host: str, port: int, tls: Tls | None) -> str | None:
    """Find out why a server that could be reached did not serve, by what it says to another connection.

    Args:
        host: Where it is.
        port: Where it is.
        tls: How it was reached over TLS; None: without.

    Returns:
        What is wrong with the configuration; None: nothing, or it cannot be told.
    """
    try:
        if tls is None:
            return _greet(host, port)
        with socket.create_connection((host, port), PROBE_TIME) as plain:
            plain.sendall(b"PING\r\n")
            with suppress(ConnectionError):  # one that speaks TLS hangs up
                if plain.recv(1) in (b"+", b"-"):
                    return NO_TLS
        with (
            socket.create_connection((host, port), PROBE_TIME) as line,
            tls.get().wrap_socket(line, server_hostname=host) as secure,
        ):
            secure.recv(1)  # a refusal of the client's certificate comes after the handshake
    except (OSError, TlsFailed) as error:
        return explain(error)
    return None


def _greet(host: str, port: int) -> str | None:
    """Begin a TLS handshake, and tell whether the server goes into it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    with socket.create_connection((host, port), PROBE_TIME) as line:
        line.sendall(outgoing.read())
        return ONLY_TLS if line.recv(1) in (b"\x15", b"\x16") else None  # an alert, or the handshake's next record
