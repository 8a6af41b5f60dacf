"""A key-value store of JSON values: LangChain's `BaseStore`, and the verbs that a user of Redis knows."""

from __future__ import annotations

import glob
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from langchain_core.stores import BaseStore
from typing_extensions import override

from langchain_memstore.backends.base import Backend
from langchain_memstore.keys import Namespace, ValuePattern, check_name
from langchain_memstore.kv.cached import Arguments, CachedFunction, Results, cached
from langchain_memstore.kv.monitoring import Monitoring
from langchain_memstore.kv.outages import OnOutage, is_local
from langchain_memstore.listing import alist_names, list_names
from langchain_memstore.ops.kv import Exists, Expire, Get, Set, Ttl, Unlink
from langchain_memstore.ops.kv_scripts import Delete, Increment, SetNew
from langchain_memstore.ops.write_ids import aexecute_write, execute_write
from langchain_memstore.options import Policy, check_seconds, milliseconds

P = ParamSpec("P")
R = TypeVar("R")


class KeyValueStore(Monitoring, BaseStore[str, Any]):
    """JSON values by their keys, with a time to live; stores make it: `Memstore.kv`.

    A value comes back equal: what JSON holds, and bytes, datetimes, decimals, UUIDs, sets, tuples and the like. Those
    of one namespace are apart from those of every other. Each method is one round trip, but for those that look for
    keys, which go through the database page by page and keep no server busy. Several values are not set as one.

    Args:
        backend: Where the values are kept.
        policy: The store's: the first part of every key, and whether values are encrypted.
        namespace: Which values; any non-empty text.
        ttl: Seconds (or a timedelta) until a value expires that is set without a TTL of its own; None: never.
        on_outage: While the store cannot be reached, `raise` BackendUnavailable for values that this process does not
            know, or answer `local`: they count as absent. It knows those that were set or deleted in the outage.

    Raises:
        ValueError: An argument makes no sense.
    """

    def __init__(
        self,
        backend: Backend,
        policy: Policy,
        namespace: str = "kv",
        ttl: float | timedelta | None = None,
        *,
        on_outage: OnOutage = "raise",
    ) -> None:
        check_name("namespace", namespace)
        check_seconds("ttl", ttl)
        self._strict = not is_local(on_outage)
        self._backend = backend
        self._namespace = namespace
        self._ttl = ttl
        self._codec = policy.value_codec()
        self._space = Namespace(policy.key_prefix, "kv" if namespace == "kv" else f"kv/{namespace}")

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}(namespace={self._namespace!r}, ttl={self._ttl!r}, backend={self._backend!r})"

    def get(self, key: str) -> Any:
        """Return a value, or None where there is none.

        Args:
            key: Its key; any non-empty text.

        Raises:
            ValueError: The key is not a non-empty text.
            ValueDecodeError: The key holds what is not a value of this package.
            BackendError: The store refused or could not be reached.
            BackendUnavailable: The store could not be reached, and this process does not know the value.
        """
        return self.mget([key])[0]

    async def aget(self, key: str) -> Any:
        """Return a value; the async variant of `get`."""
        return (await self.amget([key]))[0]

    def set(self, key: str, value: Any, ttl: float | timedelta | None = None, nx: bool = False) -> bool:
        """Set a value.

        Args:
            key: Its key; any non-empty text.
            value: The value.
            ttl: Seconds (or a timedelta) until it expires; None: as the store has it.
            nx: Whether to set it only where there is none. Of many that ask at once, one is told that it did.

        Returns:
            Whether it was set.

        Raises:
            ValueError: The key is not a non-empty text, or the TTL makes no sense.
            ValueEncodeError: The value cannot be stored and come back equal; the error says which part of it.
            BackendError: The store refused or could not be reached.
        """
        return execute_write(self._backend.execute, self._setting(key, value, ttl, nx))

    async def aset(self, key: str, value: Any, ttl: float | timedelta | None = None, nx: bool = False) -> bool:
        """Set a value; the async variant of `set`."""
        return await aexecute_write(self._backend.aexecute, self._setting(key, value, ttl, nx))

    def delete(self, key: str) -> bool:
        """Delete a value, and tell whether there was one."""
        return execute_write(self._backend.execute, self._deleting(key))

    async def adelete(self, key: str) -> bool:
        """Delete a value, and tell whether there was one."""
        return await aexecute_write(self._backend.aexecute, self._deleting(key))

    def exists(self, key: str) -> bool:
        """Tell whether there is a value."""
        return self._backend.execute(Exists((self._key(key),), strict=self._strict))

    async def aexists(self, key: str) -> bool:
        """Tell whether there is a value."""
        return await self._backend.aexecute(Exists((self._key(key),), strict=self._strict))

    def expire(self, key: str, ttl: float | timedelta | None) -> bool:
        """Set when a value expires, and tell whether there is one.

        Args:
            key: Its key.
            ttl: Seconds (or a timedelta) from now; None: never.

        Raises:
            ValueError: The key is not a non-empty text, or the TTL makes no sense.
            BackendError: The store refused or could not be reached.
        """
        return self._backend.execute(self._expiring(key, ttl))

    async def aexpire(self, key: str, ttl: float | timedelta | None) -> bool:
        """Set when a value expires; the async variant of `expire`."""
        return await self._backend.aexecute(self._expiring(key, ttl))

    def ttl(self, key: str) -> float | None:
        """Return how many seconds a value lives on; None: it does not expire; 0: there is none."""
        return _seconds(self._backend.execute(Ttl((self._key(key),), strict=self._strict)))

    async def attl(self, key: str) -> float | None:
        """Return how many seconds a value lives on; the async variant of `ttl`."""
        return _seconds(await self._backend.aexecute(Ttl((self._key(key),), strict=self._strict)))

    def incr(self, key: str, by: int = 1, ttl: float | timedelta | None = None) -> int:
        """Add to a counter, and return it; one that is not there counts from 0.

        It is added once, also where a connection breaks and the operation is sent again.

        Args:
            key: Its key.
            by: What to add.
            ttl: Seconds (or a timedelta) until a counter expires that is made now; None: as the store has it. One that
                is there keeps its own.

        Raises:
            ValueError: The key is not a non-empty text, or `by` or the TTL makes no sense.
            BackendError: The value is not a whole number of 64 bits, or would not be; or the store could not be
                reached.
        """
        return execute_write(self._backend.execute, self._increment(key, by, ttl))

    async def aincr(self, key: str, by: int = 1, ttl: float | timedelta | None = None) -> int:
        """Add to a counter, and return it; the async variant of `incr`."""
        return await aexecute_write(self._backend.aexecute, self._increment(key, by, ttl))

    @override
    def mget(self, keys: Sequence[str]) -> list[Any]:
        """Return the values of keys, in one round trip; None for each that has none."""
        return self._decode(keys, self._backend.execute(Get(self._keys(keys), strict=self._strict)))

    @override
    async def amget(self, keys: Sequence[str]) -> list[Any]:
        """Return the values of keys; the async variant of `mget`."""
        return self._decode(keys, await self._backend.aexecute(Get(self._keys(keys), strict=self._strict)))

    @override
    def mset(self, key_value_pairs: Sequence[tuple[str, Any]]) -> None:
        """Set the values of keys, in one round trip. Where one cannot be stored, none is set."""
        self._backend.execute(self._setting_all(key_value_pairs))

    @override
    async def amset(self, key_value_pairs: Sequence[tuple[str, Any]]) -> None:
        """Set the values of keys; the async variant of `mset`."""
        await self._backend.aexecute(self._setting_all(key_value_pairs))

    @override
    def mdelete(self, keys: Sequence[str]) -> None:
        """Delete the values of keys, in one round trip, whether they are there or not."""
        self._backend.execute(Unlink(self._keys(keys)))

    @override
    async def amdelete(self, keys: Sequence[str]) -> None:
        """Delete the values of keys; the async variant of `mdelete`."""
        await self._backend.aexecute(Unlink(self._keys(keys)))

    @override
    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Go through the keys that begin with a prefix; None: through all."""
        for names in self._list(_beginning(prefix)):
            yield from names

    @override
    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        """Go through the keys that begin with a prefix; the async variant of `yield_keys`."""
        async for names in self._alist(_beginning(prefix)):
            for name in names:
                yield name

    def keys(self, pattern: str = "*") -> list[str]:
        """Return the keys that match a pattern: `*`, `?`, `[seq]`, `[!seq]`. The server is not kept busy."""
        return [name for names in self._list(pattern) for name in names]

    async def akeys(self, pattern: str = "*") -> list[str]:
        """Return the keys that match a pattern; the async variant of `keys`."""
        return [name async for names in self._alist(pattern) for name in names]

    def delete_pattern(self, pattern: str) -> int:
        """Delete the values whose keys match a pattern (see `keys`); the server is not kept busy.

        Returns:
            How many were found, and deleted.
        """
        deleted = 0
        for names in self._list(pattern):
            self.mdelete(names)
            deleted += len(names)
        return deleted

    async def adelete_pattern(self, pattern: str) -> int:
        """Delete the values whose keys match a pattern; the async variant of `delete_pattern`."""
        deleted = 0
        async for names in self._alist(pattern):
            await self.amdelete(names)
            deleted += len(names)
        return deleted

    def cached(
        self, ttl: float | timedelta | None = 300, *, key: Callable[..., Any] | None = None, name: str | None = None
    ) -> Callable[[Callable[P, R]], CachedFunction[P, R]]:
        """Keep what a function returns, sync or async, and return it again for the same arguments.

        Of calls that come at once with the same arguments, one computes, and the others of the process wait for it (of
        an async function: those of its event loop). What raises is not kept; None is. `f.invalidate(...)` forgets the
        call with these arguments, `f.cache_clear()` all of them, and `f.cache_info()` counts hits and misses; the first
        two have their a-twins. A result that the store cannot keep is returned all the same, and while the store cannot
        be reached each call computes; the first such failure is logged.

        Args:
            ttl: Seconds (or a timedelta) to keep it; None: for good.
            key: What of the arguments tells one call from the next, as a function of all of them. Needed where an
                argument is not a plain value, such as the `self` of a method: `key=lambda self, x: (self.id, x)`.
            name: What the function is called in keys; None: its module and qualified name, so that all processes that
                run the same code share what is kept.

        Raises:
            ValueError: The TTL makes no sense, or a lambda has no name.
        """
        check_seconds("ttl", ttl)
        keep = None if ttl is None else milliseconds(ttl)

        def decorate(function: Callable[P, R]) -> CachedFunction[P, R]:
            arguments = Arguments(function, key, name)
            results = Results(self._backend, self._space, self._codec, keep, arguments.name)
            return cached(function, results, arguments)

        return decorate

    def _keys(self, keys: Sequence[str]) -> tuple[str, ...]:
        if isinstance(keys, str):
            raise ValueError(f"keys must be a sequence of keys, not the text {keys!r}; wrap it in a list")
        return tuple(map(self._key, keys))

    def _key(self, key: str) -> str:
        return self._space.key(check_name("key", key))

    def _path(self, key: str) -> str:
        return f"{self._namespace}[{key!r}]"

    def _decode(self, keys: Sequence[str], found: list[bytes | None]) -> list[Any]:
        return [
            None if data is None else self._codec.decode(data, self._key(key), self._path(key))
            for key, data in zip(keys, found, strict=True)
        ]

    def _time(self, ttl: float | timedelta | None) -> int | None:
        check_seconds("ttl", ttl)
        ttl = self._ttl if ttl is None else ttl
        return None if ttl is None else milliseconds(ttl)

    def _setting(self, key: str, value: Any, ttl: float | timedelta | None, nx: bool) -> Set | SetNew:
        keys = self._space.keys(check_name("key", key))
        data = self._codec.encode(value, keys[0], self._path(key))
        return SetNew(keys, data, self._time(ttl)) if nx else Set(((keys[0], data),), self._time(ttl))

    def _setting_all(self, pairs: Sequence[tuple[str, Any]]) -> Set:
        items = [(where := self._key(key), self._codec.encode(value, where, self._path(key))) for key, value in pairs]
        return Set(tuple(items), self._time(None))

    def _expiring(self, key: str, ttl: float | timedelta | None) -> Expire:
        check_seconds("ttl", ttl)
        return Expire((self._key(key),), None if ttl is None else milliseconds(ttl), strict=self._strict)

    def _deleting(self, key: str) -> Delete:
        return Delete(self._space.keys(check_name("key", key)), strict=self._strict)

    def _increment(self, key: str, by: int, ttl: float | timedelta | None) -> Increment:
        if not isinstance(by, int) or isinstance(by, bool) or not -(2**63) <= by < 2**63:
            raise ValueError(f"by must be a whole number of 64 bits, not {by!r}")
        return Increment(self._space.keys(check_name("key", key)), by, self._time(ttl), strict=self._strict)

    def _list(self, match: str) -> Iterator[list[str]]:
        return list_names(self._backend, self._pattern(match), strict=self._strict)

    def _alist(self, match: str) -> AsyncIterator[list[str]]:
        return alist_names(self._backend, self._pattern(match), strict=self._strict)

    def _pattern(self, match: str) -> ValuePattern:
        check_name("pattern", match)
        return ValuePattern(self._space.prefix, match, self._space.kind)


def _beginning(prefix: str | None) -> str:
    return f"{glob.escape(prefix or '')}*"


def _seconds(ttl_ms: int | None) -> float | None:
    return None if ttl_ms is None else ttl_ms / 1000
