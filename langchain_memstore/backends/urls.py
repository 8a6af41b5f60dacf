"""Which backend a URL stands for."""

from __future__ import annotations

from langchain_memstore.backends.base import Backend
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.options import ConnectionOptions, FallbackPolicy

LOCAL = "memory://"


def backend_of_url(url: str, options: ConnectionOptions, fallback: FallbackPolicy) -> Backend:
    """Make the backend of a URL, without connecting yet.

    Args:
        url: `memory://`, `memory://<name>`, `redis://`, `rediss://` or `unix://`.
        options: How to connect.
        fallback: What happens while Redis cannot be reached.

    Raises:
        ValueError: The URL or an option makes no sense.
    """
    if not isinstance(url, str) or "://" not in url:
        raise ValueError("the URL must be memory://, redis://, rediss:// or unix://")
    if url.startswith(LOCAL):
        name = url.removeprefix(LOCAL)
        return LocalBackend.shared(name) if name else LocalBackend()
    from langchain_memstore.backends.connections import Connections
    from langchain_memstore.backends.fallback import backend_over

    return backend_over(Connections.of_url(url, **options), fallback)
