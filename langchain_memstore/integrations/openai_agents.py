"""Memory for the agents of the OpenAI Agents SDK."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
from typing_extensions import Unpack, override

try:
    from agents.items import TResponseInputItem
    from agents.memory import SessionSettings
except ImportError as error:
    raise ImportError(
        "MemstoreSession needs openai-agents 0.8 or later: pip install 'langchain-memstore[openai-agents]'"
    ) from error

from langchain_memstore.codec.compression import expand, is_compressed
from langchain_memstore.codec.tagged import pack, unpack
from langchain_memstore.errors import DecryptError, MessageDecodeError, MessageEncodeError, MissingPackage
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.reading import Read
from langchain_memstore.ops.session import Append, Clear, Pop
from langchain_memstore.ops.write_ids import aexecute_write
from langchain_memstore.options import HistoryOptions, check_count
from langchain_memstore.window import Bounds

if TYPE_CHECKING:
    from langchain_memstore.memstore import Memstore

logger = logging.getLogger(__name__)

USER, ASSISTANT, CALL, RESULT, OTHER = KINDS = "user", "assistant", "call", "result", "other"
"""What an entry says of its item: a message of the user, a message of the assistant; a call of a tool, or another thing
that the model made on the way, such as its reasoning; what never stands without the item before it; anything else."""


RESULTS = (b'{"item":"result"',)
TURN_STARTS = (b'{"item":"user"',)
JOINED = (
    (b'{"item":"call"', b'{"item":"call"'),
    (b'{"item":"call"', b'{"item":"assistant"'),
    (b'{"item":"assistant"', b'{"item":"call"'),
)
"""What belongs to one response of the model: OpenAI refuses an item without the reasoning that led to it, and results
of calls that come in a row come after all of them."""


def kind_of(item: dict[str, Any]) -> str:
    """Tell what an item is, for the rules of the window."""
    kind, role = item.get("type", "message"), item.get("role")
    if kind == "message":
        return str(role) if role in (USER, ASSISTANT) else OTHER
    if not isinstance(kind, str):
        return OTHER
    if kind.endswith("_output") or kind == "mcp_approval_response" or item.get("approval_request_id"):
        return RESULT
    if kind.endswith("_call") or kind in ("reasoning", "program", "mcp_list_tools", "mcp_approval_request"):
        return CALL
    return OTHER


class MemstoreSession:
    """A conversation of the OpenAI Agents SDK, kept in a store: a `Session` for its `Runner`.

    Items come back as the SDK gave them. `max_messages` bounds their number, and a user's message starts a turn. The
    window never starts with an output without its call, nor within the row of reasoning, calls and text that the model
    made as one: where that leaves nothing, it starts with the row, and exceeds the bound. Each method is atomic, and
    done once however often its connection is lost.

    A session is no `store.history` of the same id: its items are kept apart, under the store's `key_prefix` and
    `:items`. `store.history(session_id, key_prefix="conversation:items")` tells its turns and its TTL; its messages
    are none that LangChain knows. With `encryption_keys`, items are encrypted; what kind each is stays in clear.

    Args:
        session_id: Which conversation; any non-empty text.
        store: Where it is kept.
        session_settings: The SDK's settings: the limit of `get_items` where it is called without one.
        **options: What this session does differently from its store; see `HistoryOptions`.

    Raises:
        ValueError: The session id is not a non-empty text, an option makes no sense, or there is to be a summary or a
            budget of tokens, which only messages have.
    """

    def __init__(
        self,
        session_id: str,
        store: Memstore,
        *,
        session_settings: SessionSettings | None = None,
        **options: Unpack[HistoryOptions],
    ) -> None:
        policy = store._policy.with_options(**options)
        if policy.max_tokens is not None or policy.bounds.max_evicted is not None:
            raise ValueError(
                f"session {session_id!r}: a MemstoreSession keeps items, which have neither a summary nor a budget of "
                "tokens; pass summarizer=None, summarize='inline' and max_tokens=None"
            )
        self.session_id = session_id
        self.session_settings = session_settings
        self.keys = SessionKeys(f"{policy.key_prefix}:items", session_id)
        """The keys of the session in Redis."""
        self._backend = store._backend
        self._policy = policy
        self._codec = policy.session_codec(self.keys)
        self._bounds = replace(policy.bounds, results=RESULTS, turn_starts=TURN_STARTS, joined=JOINED)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}(session_id={self.session_id!r}, backend={self._backend!r})"

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the items of the window, oldest first.

        Args:
            limit: The most items to return, the last ones, from the first of them that may head a window; where none
                of them may, they are returned as they are. None: as `session_settings` say, else all.

        Raises:
            ValueError: The limit is negative.
            MessageDecodeError: An entry is not an item, where `on_corrupt="raise"`; else it is skipped with a warning.
            DecryptError: An item is encrypted with none of the session's keys, or was changed.
            MissingPackage: An item is compressed, and there is nothing to expand it.
            BackendError: The store refused or could not be reached.
        """
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        if limit != 0:
            check_count("limit", limit, optional=True)
        data = await self._backend.aexecute(Read(self.keys, self._policy.ttl_ms, self._policy.refresh_ttl_on_read))
        return self._decode(data.entries if limit is None else _last(data.entries, limit, self._bounds))

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Append items as one: all of them or none.

        Args:
            items: What to append, oldest first; with none, nothing is done.

        Raises:
            MessageEncodeError: An item cannot be stored and come back equal; nothing was written.
            BackendError: The store refused or could not be reached.
        """
        if entries := tuple(_encode(item, f"items[{index}]") for index, item in enumerate(items)):
            await self._append(self._codec.seal(entries))

    async def pop_item(self) -> TResponseInputItem | None:
        """Take the last item off, and its turn off the turn counter; None: there is none.

        Raises:
            DecryptError: It cannot be decrypted; it was put back.
            MissingPackage: It is compressed, and there is nothing to expand it; it was put back.
            BackendError: The store refused or could not be reached.
        """
        while entries := await aexecute_write(
            self._backend.aexecute, Pop(self.keys, 1, TURN_STARTS, self._policy.ttl_ms)
        ):
            try:
                items = self._decode(entries)
            except (DecryptError, MissingPackage):
                await self._append(tuple(entries))
                raise
            if items:
                return items[0]
        return None

    async def clear_session(self) -> None:
        """Remove the session. Clearing what is not there does nothing."""
        await self._backend.aexecute(Clear(self.keys))

    async def _append(self, entries: tuple[bytes, ...]) -> None:
        await aexecute_write(self._backend.aexecute, Append(self.keys, entries, self._bounds, self._policy.ttl_ms))

    def _decode(self, entries: Sequence[bytes]) -> list[TResponseInputItem]:
        items: list[Any] = []
        corrupt = []
        for index, entry in enumerate(self._codec.unseal(entries)):
            try:
                items.append(_decode(entry))
            except MissingPackage as error:
                raise MissingPackage(f"session {self.session_id!r}: its {error}") from error
            except (ValueError, TypeError, KeyError) as error:
                if self._policy.on_corrupt == "raise":
                    raise MessageDecodeError(
                        f"session {self.session_id!r}, entry {index}: not an item: {type(error).__name__}; repair or "
                        'clear the session, or use on_corrupt="skip"'
                    ) from error
                corrupt.append(index)
        if corrupt:
            logger.warning("session %r: skipped entries that are not items, at index %s", self.session_id, corrupt)
        return items


def _last(entries: Sequence[bytes], limit: int, bounds: Bounds) -> Sequence[bytes]:
    """Return the last entries, from the first of them that may head a window.

    Where none may, all are returned, for the SDK looks at the end of a session with a limit, too: when it takes outputs
    back, or finds out whether they arrived. Before it calls a model, it drops outputs without their calls itself.
    """
    start = max(0, len(entries) - limit)
    for index in range(start, len(entries)):
        if index == 0 or not bounds.is_bound(entries, index):
            return entries[index:]
    return entries[start:]


def _encode(item: object, path: str) -> bytes:
    if not isinstance(item, dict):
        raise MessageEncodeError(f"{path} must be a dict, as the SDK's input items are, not {type(item).__name__}")
    try:
        return orjson.dumps({"item": kind_of(item), "data": pack(item, path)})
    except (TypeError, RecursionError) as error:
        raise MessageEncodeError(f"{path} is nested too deeply to be stored") from error


def _decode(entry: bytes) -> dict[str, Any]:
    value = orjson.loads(expand(entry) if is_compressed(entry) else entry)
    item = unpack(value["data"])
    if value["item"] not in KINDS or not isinstance(item, dict):
        raise TypeError("not an item")
    return item
