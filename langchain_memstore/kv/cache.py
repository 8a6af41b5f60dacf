"""A cache of what language models answered: LangChain's `BaseCache`."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from langchain_core.caches import BaseCache
from langchain_core.outputs import ChatGeneration, Generation
from typing_extensions import override

from langchain_memstore import codec
from langchain_memstore.backends.base import Backend
from langchain_memstore.errors import (
    DecryptError,
    MessageDecodeError,
    MessageEncodeError,
    ValueDecodeError,
    ValueEncodeError,
)
from langchain_memstore.keys import Namespace, ValuePattern
from langchain_memstore.kv.cache_failures import CacheFailures
from langchain_memstore.listing import adelete_names, delete_names
from langchain_memstore.ops.kv import Get, SetCached, Unlink
from langchain_memstore.ops.listing import Scan
from langchain_memstore.options import Policy, check_seconds, milliseconds

logger = logging.getLogger(__name__)

_ANSWER = b"answer"  # what it is sealed as


class GenerationCache(BaseCache):
    """Keeps what language models answered, for all processes on one Redis; stores make it: `Memstore.cache`.

    Generations come back equal, with messages, tool calls and usage; those of a subclass as the class of langchain-core
    that they derive from. Keys are SHA-256 hashes of prompt and model, so no prompt is readable in them. An answer that
    cannot be stored and come back equal is not kept, and an entry that cannot be read is none; either is logged. A
    store that cannot be reached has no answers, and one that cannot keep an answer raises nothing; the first such
    failure is logged.

    Args:
        backend: Where answers are kept.
        policy: The store's: the first part of every key, and whether answers are encrypted.
        ttl: Seconds (or a timedelta) to keep an answer; None: for good.

    Raises:
        ValueError: The TTL makes no sense.
    """

    def __init__(self, backend: Backend, policy: Policy, ttl: float | timedelta | None = None) -> None:
        check_seconds("ttl", ttl)
        self._backend = backend
        self._ttl = None if ttl is None else milliseconds(ttl)
        self._codec = policy.value_codec()
        self._space = Namespace(policy.key_prefix, "cache")
        self._failures = CacheFailures("answers of models")

    @override
    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Return what the model answered to the prompt before, or None.

        Raises:
            BackendError: The store refuses.
        """
        op = self._getting(prompt, llm_string)
        data = None
        with self._failures.reading():
            (data,) = self._backend.execute(op)
        return self._decode(data, op.keys[0])

    @override
    async def alookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Return what the model answered to the prompt before; the async variant of `lookup`."""
        op = self._getting(prompt, llm_string)
        data = None
        with self._failures.reading():
            (data,) = await self._backend.aexecute(op)
        return self._decode(data, op.keys[0])

    @override
    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Keep what the model answered to the prompt."""
        if (op := self._setting(prompt, llm_string, return_val)) is not None:
            with self._failures.writing():
                self._backend.execute(op)

    @override
    async def aupdate(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Keep what the model answered to the prompt; the async variant of `update`."""
        if (op := self._setting(prompt, llm_string, return_val)) is not None:
            with self._failures.writing():
                await self._backend.aexecute(op)

    @override
    def clear(self, **kwargs: Any) -> None:
        """Forget every answer of this cache, and nothing else.

        Raises:
            BackendError: The store refused or could not be reached.
        """
        delete_names(self._backend, self._all(), self._unlinking)

    @override
    async def aclear(self, **kwargs: Any) -> None:
        """Forget every answer of this cache; the async variant of `clear`."""
        await adelete_names(self._backend, self._all(), self._unlinking)

    def _key(self, prompt: str, llm_string: str) -> str:
        asked = json.dumps([prompt, llm_string]).encode()  # which tells where the one ends, and takes lone surrogates
        return self._space.key(hashlib.sha256(asked).hexdigest())

    def _getting(self, prompt: str, llm_string: str) -> Get:
        return Get((self._key(prompt, llm_string),))

    def _setting(self, prompt: str, llm_string: str, generations: Sequence[Generation]) -> SetCached | None:
        key = self._key(prompt, llm_string)
        try:
            data = self._codec.encode(_entries(generations), key, "generations", _ANSWER)
        except (MessageEncodeError, ValueEncodeError) as error:
            logger.warning("an answer is not cached: %s", error)
            return None
        return SetCached(((key, data),), self._ttl)

    def _decode(self, data: bytes | None, key: str) -> list[Generation] | None:
        if data is None:
            return None
        try:
            return [_generation(*entry) for entry in self._codec.decode(data, key, f"key {key!r}", _ANSWER)]
        except (ValueDecodeError, MessageDecodeError, DecryptError, TypeError, ValueError) as error:
            logger.warning("key %r holds no answers, and is taken for empty: %s", key, type(error).__name__)
            return None

    def _all(self) -> Scan:
        return Scan(ValuePattern(self._space.prefix, "*", self._space.kind), strict=True)

    def _unlinking(self, names: list[str]) -> Unlink:
        return Unlink(tuple(map(self._space.key, names)))


def _entries(generations: Sequence[Generation]) -> list[list[Any]]:
    entries = []
    for generation in generations:
        if isinstance(generation, ChatGeneration):
            (message,) = codec.encode([generation.message])
            entries.append(["chat", message.decode(), generation.generation_info])
        else:
            entries.append(["text", generation.text, generation.generation_info])
    return entries


def _generation(kind: str, content: str, info: dict[str, Any] | None) -> Generation:
    if kind == "chat":
        return ChatGeneration(message=codec.decode(content), generation_info=info)
    if kind == "text":
        return Generation(text=content, generation_info=info)
    raise ValueError(f"there is no kind {kind!r} of generations")
