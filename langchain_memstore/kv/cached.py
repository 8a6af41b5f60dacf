"""Keeping what a function returns."""

from __future__ import annotations

import asyncio
import functools
import glob
import hashlib
import inspect
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar, cast

import orjson

from langchain_memstore.backends.base import Backend
from langchain_memstore.codec.tagged import MARK, pack
from langchain_memstore.codec.values import ValueCodec
from langchain_memstore.errors import DecryptError, MessageEncodeError, ValueDecodeError, ValueEncodeError
from langchain_memstore.keys import Namespace, ValuePattern, check_name
from langchain_memstore.kv.cache_failures import CacheFailures
from langchain_memstore.listing import alist_names, list_names
from langchain_memstore.ops.kv import Get, SetCached, Unlink
from langchain_memstore.ops.kv_scripts import Delete
from langchain_memstore.ops.write_ids import aexecute_write, execute_write

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_RESULT = b"result"  # what is sealed as such does not open as a value that was set


class CacheInfo(NamedTuple):
    """How a cached function did in this process."""

    hits: int
    """How many calls were answered without computing."""
    misses: int
    """How many calls computed."""


class CachedFunction(Protocol[P, R_co]):
    """A function whose results are kept; see `KeyValueStore.cached`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return what is kept of an earlier call with these arguments, or else call the function."""
        ...

    def __get__(self, instance: Any, owner: Any) -> Callable[..., R_co]:
        """Return the function as the method of an object."""
        ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the call with these arguments (of a method, `self` first); tells whether it was kept."""
        ...

    async def ainvalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the call with these arguments; the async variant of `invalidate`."""
        ...

    def cache_clear(self) -> int:
        """Forget all calls, of every process; tells how many were kept."""
        ...

    async def acache_clear(self) -> int:
        """Forget all calls; the async variant of `cache_clear`."""
        ...

    def cache_info(self) -> CacheInfo:
        """Count the calls of this process."""
        ...


class Arguments:
    """Tells the calls of a function apart.

    Args:
        function: The function.
        key: What of its arguments counts, as a function of them; None: all of them.
        name: What the function is called; None: its module and qualified name.

    Raises:
        ValueError: A lambda has no name.
    """

    def __init__(self, function: Callable[..., Any], key: Callable[..., Any] | None, name: str | None) -> None:
        qualified = f"{function.__module__}.{function.__qualname__}"
        if name is None and function.__qualname__.endswith("<lambda>"):
            raise ValueError(f"name must be given: all the lambdas of {function.__module__} are called the same")
        self.name = check_name("name", qualified if name is None else name)
        self._signature = inspect.signature(function)
        self._key = key

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return what stands for a call: the function's name, and a hash of the arguments.

        Raises:
            TypeError: The function does not take these arguments.
            ValueEncodeError: An argument cannot be told from others.
        """
        if self._key is not None:
            counted = {"key": self._key(*args, **kwargs)}
        else:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            counted = bound.arguments
        try:
            packed = [[name, _canonical(pack(value, f"{name!r}"))] for name, value in counted.items()]
            text = orjson.dumps(packed, option=orjson.OPT_SORT_KEYS)
        except (MessageEncodeError, TypeError, RecursionError) as error:
            raise ValueEncodeError(
                f"a call of {self.name} cannot be told from others: {error}; pass key=, a function of the arguments "
                "that returns a plain value"
            ) from error
        return f"{self.name}/{hashlib.sha256(text).hexdigest()[:32]}"


def _canonical(packed: Any) -> Any:
    """Return a packed value such that equal sets and dicts become equal JSON."""
    if isinstance(packed, list):
        return [_canonical(item) for item in packed]
    if not isinstance(packed, dict):
        return packed
    if MARK not in packed:
        return {key: _canonical(item) for key, item in packed.items()}
    kind, content = packed[MARK]
    content = _canonical(content)
    if kind in ("set", "frozenset", "dict"):
        content = sorted(content, key=lambda item: orjson.dumps(item, option=orjson.OPT_SORT_KEYS))
    return {MARK: [kind, content]}


def cached(function: Callable[P, R], results: Results, arguments: Arguments) -> CachedFunction[P, R]:
    """Return a function that keeps what another returns.

    Args:
        function: The other one, sync or async.
        results: Keeps it.
        arguments: Tells its calls apart.
    """
    wrapper: Any
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
            return await results.acall(arguments.key(args, kwargs), lambda: function(*args, **kwargs))

    else:

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
            return results.call(arguments.key(args, kwargs), lambda: function(*args, **kwargs))

    def invalidate(*args: P.args, **kwargs: P.kwargs) -> bool:
        return execute_write(results.backend.execute, results.deleting(arguments.key(args, kwargs)))

    async def ainvalidate(*args: P.args, **kwargs: P.kwargs) -> bool:
        return await aexecute_write(results.backend.aexecute, results.deleting(arguments.key(args, kwargs)))

    pattern = results.pattern(f"{glob.escape(arguments.name)}/*")

    def cache_clear() -> int:
        cleared = 0
        for names in list_names(results.backend, pattern, strict=True):
            results.backend.execute(results.unlinking(names))
            cleared += len(names)
        return cleared

    async def acache_clear() -> int:
        cleared = 0
        async for names in alist_names(results.backend, pattern, strict=True):
            await results.backend.aexecute(results.unlinking(names))
            cleared += len(names)
        return cleared

    for extra in (invalidate, ainvalidate, cache_clear, acache_clear):
        setattr(wrapper, extra.__name__, extra)
    wrapper.cache_info = results.info
    return cast("CachedFunction[P, R]", wrapper)


class Results:
    """What a function returned, by its calls; and those calls that are under way.

    A store that cannot be reached has nothing, and one that cannot keep a result does no harm to the call. One that
    refuses to be read raises, before anything is computed.

    Args:
        backend: Where it is kept.
        space: The keys.
        codec: Encodes it.
        ttl: Milliseconds to keep it; None: for good.
        name: What the function is called.
    """

    def __init__(self, backend: Backend, space: Namespace, codec: ValueCodec, ttl: int | None, name: str) -> None:
        self.backend = backend
        self._failures = CacheFailures(f"results of {name}")
        self._space = space
        self._codec = codec
        self._ttl = ttl
        self._lock = threading.Lock()
        self._hits = self._misses = 0
        self._under_way: dict[str, Future[bytes | None]] = {}
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Future[bytes | None]]] = (
            weakref.WeakKeyDictionary()
        )

    def pattern(self, match: str) -> ValuePattern:
        """Return the pattern of some calls."""
        return ValuePattern(self._space.prefix, match, self._space.kind)

    def deleting(self, key: str) -> Delete:
        """Return the operation that forgets a call, and tells whether it was kept."""
        return Delete(self._space.keys(key))

    def unlinking(self, keys: list[str]) -> Unlink:
        """Return the operation that forgets calls."""
        return Unlink(tuple(map(self._space.key, keys)))

    def info(self) -> CacheInfo:
        """Count the calls of this process."""
        with self._lock:
            return CacheInfo(self._hits, self._misses)

    def call(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return what is kept of a call, or compute it."""
        while True:
            with self._lock:
                other = self._under_way.get(key)
                if other is None:
                    mine = self._under_way[key] = Future[bytes | None]()
            if other is None:
                break
            if (data := other.result()) is not None:
                return self._hit(key, data)
        data, is_reachable = None, False
        try:
            with self._failures.reading():
                (data,) = self.backend.execute(Get((self._space.key(key),)))
                is_reachable = True
            if data is not None:
                with suppress(ValueDecodeError, DecryptError):  # it was kept by other hands, or with other keys
                    return self._hit(key, data)
                data = None
            value = compute()
            setting = self._computed(key, value)
            data = setting.items[0][1]
            if is_reachable:
                with self._failures.writing():
                    self.backend.execute(setting)
            return value
        except Exception as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._under_way[key]
            if not mine.done():
                mine.set_result(data)

    async def acall(self, key: str, compute: Callable[[], Any]) -> Any:
        """Return what is kept of a call, or compute it; the async variant of `call`."""
        loop = asyncio.get_running_loop()
        with self._lock:
            under_way = self._loops.setdefault(loop, {})
        while (other := under_way.get(key)) is not None:
            if (data := await asyncio.shield(other)) is not None:
                return self._hit(key, data)
        mine = under_way[key] = loop.create_future()
        data, is_reachable = None, False
        try:
            with self._failures.reading():
                (data,) = await self.backend.aexecute(Get((self._space.key(key),)))
                is_reachable = True
            if data is not None:
                with suppress(ValueDecodeError, DecryptError):  # it was kept by other hands, or with other keys
                    return self._hit(key, data)
                data = None
            value = await cast("Awaitable[Any]", compute())
            setting = self._computed(key, value)
            data = setting.items[0][1]
            if is_reachable:
                with self._failures.writing():
                    await self.backend.aexecute(setting)
            return value
        except Exception as error:
            mine.set_exception(error)
            mine.exception()  # perhaps nobody else waits to hear of it
            raise
        finally:
            del under_way[key]
            if not mine.done():
                mine.set_result(data)  # None where this call was cancelled: the next of those that wait computes

    def _hit(self, key: str, data: bytes) -> Any:
        value = self._codec.decode(data, self._space.key(key), f"the result {key!r}", _RESULT)
        with self._lock:
            self._hits += 1
        return value

    def _computed(self, key: str, value: Any) -> SetCached:
        with self._lock:
            self._misses += 1
        where = self._space.key(key)
        return SetCached(((where, self._codec.encode(value, where, f"the result {key!r}", _RESULT)),), self._ttl)
