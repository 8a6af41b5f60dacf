"""A working memory: what an agent knows, as records by conversation and type."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import orjson

from langchain_memstore.backends.base import Backend
from langchain_memstore.errors import DecryptError, ValueDecodeError
from langchain_memstore.keys import Namespace, RecordPattern, check_name, is_reserved
from langchain_memstore.kv.outages import OnOutage, is_local
from langchain_memstore.listing import alist_names, list_names
from langchain_memstore.ops.kv import Get, Set
from langchain_memstore.ops.kv_scripts import HEAD, Delete, UpdateRecord
from langchain_memstore.ops.stand_in import UnknownValue
from langchain_memstore.ops.write_ids import aexecute_write, execute_write
from langchain_memstore.options import Policy, check_seconds, milliseconds

logger = logging.getLogger(__name__)

WORKING = "WORKING_MEMORY"

_DATA, _METADATA = b"data", b"metadata"  # what is sealed as one does not open as the other


@dataclass(frozen=True)
class WorkingMemoryRecord:
    """What is known, of one type, for one conversation."""

    conversation_id: str
    """For which conversation."""
    memory_type: str
    """Of which type."""
    data: Any
    """What is known."""
    metadata: dict[str, Any]
    """What is known about that."""
    created_at: datetime
    """When it was stored."""
    updated_at: datetime
    """When it was last stored or updated."""


class WorkingMemory:
    """Records of what an agent knows, one for each conversation and type; stores make it: `Memstore.working_memory`.

    A record's key is `<prefix>:<type>:{<conversation id>}`, and holds JSON. Data and metadata come back equal.

    Args:
        backend: Where the records are kept.
        policy: The store's: whether records are encrypted.
        prefix: The first part of every key.
        ttl: Seconds (or a timedelta) until a record expires after it was stored or updated; None: never.
        on_outage: While the store cannot be reached, `raise` BackendUnavailable for records that this process does not
            know, or answer `local`: they count as absent. It knows those that were stored or deleted in the outage.

    Raises:
        ValueError: An argument makes no sense.
    """

    def __init__(
        self,
        backend: Backend,
        policy: Policy,
        prefix: str = "memory",
        ttl: float | timedelta | None = 43_200,
        *,
        on_outage: OnOutage = "raise",
    ) -> None:
        check_seconds("ttl", ttl)
        self._backend = backend
        self._strict = not is_local(on_outage)
        self._codec = policy.value_codec()
        self._prefix = check_name("prefix", prefix)
        self._ttl = None if ttl is None else milliseconds(ttl)

    def store(
        self, conversation_id: str, data: Any, memory_type: str = WORKING, metadata: Mapping[str, Any] | None = None
    ) -> str:
        """Store a record, in place of what was known.

        Args:
            conversation_id: For which conversation; any non-empty text.
            data: What is known: a value such as `KeyValueStore` takes.
            memory_type: Of which type; any non-empty text but the names of this package's own keys.
            metadata: What is known about that.

        Returns:
            The record's key in Redis.

        Raises:
            ValueError: An id or a type makes no sense.
            ValueEncodeError: A value cannot be stored and come back equal.
            BackendError: The store refused or could not be reached.
        """
        return self.store_many([(conversation_id, data)], memory_type, metadata)[0]

    async def astore(
        self, conversation_id: str, data: Any, memory_type: str = WORKING, metadata: Mapping[str, Any] | None = None
    ) -> str:
        """Store a record; the async variant of `store`."""
        return (await self.astore_many([(conversation_id, data)], memory_type, metadata))[0]

    def store_many(
        self, items: Iterable[tuple[str, Any]], memory_type: str = WORKING, metadata: Mapping[str, Any] | None = None
    ) -> list[str]:
        """Store records of one type, in one round trip.

        Args:
            items: Conversations' ids, and what is known for each.
            memory_type: Of which type.
            metadata: What is known about all of them.

        Returns:
            The records' keys in Redis.
        """
        op = self._storing(items, memory_type, metadata)
        self._backend.execute(op)
        return [key for key, _ in op.items]

    async def astore_many(
        self, items: Iterable[tuple[str, Any]], memory_type: str = WORKING, metadata: Mapping[str, Any] | None = None
    ) -> list[str]:
        """Store records of one type; the async variant of `store_many`."""
        op = self._storing(items, memory_type, metadata)
        await self._backend.aexecute(op)
        return [key for key, _ in op.items]

    def retrieve(self, conversation_id: str, memory_type: str = WORKING) -> WorkingMemoryRecord | None:
        """Return a record, or None where there is none; its TTL goes on."""
        key = self._keys(conversation_id, memory_type)[0]
        (data,) = self._backend.execute(Get((key,), strict=self._strict))
        return None if data is None else self._record(data, key, conversation_id, memory_type)

    async def aretrieve(self, conversation_id: str, memory_type: str = WORKING) -> WorkingMemoryRecord | None:
        """Return a record; the async variant of `retrieve`."""
        key = self._keys(conversation_id, memory_type)[0]
        (data,) = await self._backend.aexecute(Get((key,), strict=self._strict))
        return None if data is None else self._record(data, key, conversation_id, memory_type)

    def update(
        self, conversation_id: str, data: Any, memory_type: str = WORKING, metadata: Mapping[str, Any] | None = None
    ) -> bool:
        """Replace a record, data and metadata, but for when it was created; its TTL starts anew.

        Returns:
            Whether there was one; nothing is stored where there was none.
        """
        try:
            return self._backend.execute(self._updating(conversation_id, data, memory_type, metadata))
        except UnknownValue:
            if self._strict:
                raise
            return False  # and none is replaced when the store is back

    async def aupdate(
        self, conversation_id: str, data: Any, memory_type: str = WORKING, metadata: Mapping[str, Any] | None = None
    ) -> bool:
        """Replace a record; the async variant of `update`."""
        try:
            return await self._backend.aexecute(self._updating(conversation_id, data, memory_type, metadata))
        except UnknownValue:
            if self._strict:
                raise
            return False  # and none is replaced when the store is back

    def delete(self, conversation_id: str, memory_type: str = WORKING) -> bool:
        """Delete a record, and tell whether there was one."""
        return execute_write(self._backend.execute, self._deleting(conversation_id, memory_type))

    async def adelete(self, conversation_id: str, memory_type: str = WORKING) -> bool:
        """Delete a record, and tell whether there was one."""
        return await aexecute_write(self._backend.aexecute, self._deleting(conversation_id, memory_type))

    def records(
        self, conversation_id: str | None = None, memory_type: str | None = None
    ) -> Iterator[WorkingMemoryRecord]:
        """Go through the records, in no order; the server is not kept busy.

        Args:
            conversation_id: For which conversation; None: for all.
            memory_type: Of which type; None: of all.
        """
        pattern = self._pattern(conversation_id, memory_type)
        for keys in list_names(self._backend, pattern, strict=self._strict):
            yield from self._records(pattern, keys, self._backend.execute(Get(tuple(keys), strict=self._strict)))

    async def arecords(
        self, conversation_id: str | None = None, memory_type: str | None = None
    ) -> AsyncIterator[WorkingMemoryRecord]:
        """Go through the records; the async variant of `records`."""
        pattern = self._pattern(conversation_id, memory_type)
        async for keys in alist_names(self._backend, pattern, strict=self._strict):
            found = await self._backend.aexecute(Get(tuple(keys), strict=self._strict))
            for record in self._records(pattern, keys, found):
                yield record

    def _keys(self, conversation_id: str, memory_type: str) -> tuple[str, str]:
        space = Namespace(self._prefix, _check_type(memory_type))
        return space.keys(check_name("conversation_id", conversation_id))

    def _storing(self, items: Iterable[tuple[str, Any]], memory_type: str, metadata: Mapping[str, Any] | None) -> Set:
        now = _now()
        keys = [(self._keys(each, memory_type)[0], each, data) for each, data in items]
        encoded = [(key, HEAD + now + b'"' + self._tail(key, each, data, metadata, now)) for key, each, data in keys]
        return Set(tuple(encoded), self._ttl)

    def _updating(
        self, conversation_id: str, data: Any, memory_type: str, metadata: Mapping[str, Any] | None
    ) -> UpdateRecord:
        (key, _) = self._keys(conversation_id, memory_type)
        return UpdateRecord((key,), self._tail(key, conversation_id, data, metadata, _now()), self._ttl)

    def _deleting(self, conversation_id: str, memory_type: str) -> Delete:
        return Delete(self._keys(conversation_id, memory_type), strict=self._strict)

    def _tail(self, key: str, conversation_id: str, data: Any, metadata: Mapping[str, Any] | None, now: bytes) -> bytes:
        """Encode a record, but for when it was created: what follows `{"created_at":"..."`."""
        where = f"for conversation {conversation_id!r}"
        return b',"updated_at":"%b","data":%b,"metadata":%b}' % (
            now,
            self._codec.encode(data, key, f"data {where}", _DATA),
            self._codec.encode(dict(metadata or {}), key, f"metadata {where}", _METADATA),
        )

    def _record(self, data: bytes, key: str, conversation_id: str, memory_type: str) -> WorkingMemoryRecord:
        where = f"for conversation {conversation_id!r}"
        try:
            fields = orjson.loads(data)
            stored, metadata = orjson.dumps(fields["data"]), orjson.dumps(fields["metadata"])
            return WorkingMemoryRecord(
                conversation_id=conversation_id,
                memory_type=memory_type,
                data=self._codec.decode(stored, key, f"data {where}", _DATA),
                metadata=self._codec.decode(metadata, key, f"metadata {where}", _METADATA),
                created_at=datetime.fromisoformat(fields["created_at"]),
                updated_at=datetime.fromisoformat(fields["updated_at"]),
            )
        except DecryptError:
            raise
        except Exception as error:  # a key may hold anything, and fail in any way
            raise ValueDecodeError(f"key {key!r} holds no record; delete it or store it anew") from error

    def _records(
        self, pattern: RecordPattern, keys: list[str], found: list[bytes | None]
    ) -> Iterator[WorkingMemoryRecord]:
        for key, data in zip(keys, found, strict=True):
            parsed = pattern.parse(key)
            if data is None or parsed is None:  # it has expired since it was listed
                continue
            try:
                yield self._record(data, key, *parsed)
            except ValueDecodeError as error:
                logger.warning("skipped a record: %s", error)

    def _pattern(self, conversation_id: str | None, memory_type: str | None) -> RecordPattern:
        if conversation_id is not None:
            check_name("conversation_id", conversation_id)
        if memory_type is not None:
            _check_type(memory_type)
        return RecordPattern(self._prefix, conversation_id=conversation_id, memory_type=memory_type)


def _check_type(memory_type: str) -> str:
    if is_reserved(check_name("memory_type", memory_type)):
        raise ValueError(f"memory_type must not be {memory_type!r}, which names other keys of this package")
    return memory_type


def _now() -> bytes:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").encode()
