"""One conversation in a store; knows nothing of LangChain's history classes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, get_buffer_string
from typing_extensions import override

from langchain_memstore import display
from langchain_memstore.display.notebook import shows
from langchain_memstore.errors import DecryptError, MissingPackage
from langchain_memstore.keys import SessionKeys
from langchain_memstore.listing import Query
from langchain_memstore.models import Shown, Snapshot
from langchain_memstore.ops.reading import Read, ReadEntries, SessionView
from langchain_memstore.ops.session import Append, Clear, Pop, RegisterTurn, SetSummary, Touch
from langchain_memstore.ops.write_ids import aexecute_write, execute_write
from langchain_memstore.options import Policy, check_count
from langchain_memstore.prompt import build_prompt

if TYPE_CHECKING:
    from langchain_memstore.backends.base import Backend
    from langchain_memstore.summaries.compactor import Compactor


class Conversation(Shown):
    """One conversation in a store, with native async methods.

    Making one does no I/O, and holds nothing of the conversation: two objects with the same session id on the same
    store are the same conversation.

    Args:
        session_id: Which conversation; any non-empty text.
        backend: Where the conversation is kept.
        policy: How it is kept.
        compactor: Makes its summaries; None: nothing waits to be summarised.

    Raises:
        ValueError: The session id is not a non-empty text.
    """

    def __init__(self, session_id: str, backend: Backend, policy: Policy, compactor: Compactor | None = None) -> None:
        self.session_id = session_id
        self.keys = SessionKeys(policy.key_prefix, session_id)
        """The keys of the session in Redis."""
        self._backend = backend
        self._policy = policy
        self._ttl = policy.ttl_ms
        self._bounds = policy.bounds
        self._compactor = compactor
        self._codec = policy.session_codec(self.keys)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}(session_id={self.session_id!r}, backend={self._backend!r})"

    @override
    def __str__(self) -> str:
        return get_buffer_string(self.messages)

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages as one: all of them or none, and once, however often the connection is lost.

        Args:
            messages: What to append, oldest first; with none, nothing is done.

        Raises:
            MessageEncodeError: A message cannot be stored and come back equal; nothing was written.
            BackendError: The store refused or could not be reached.
        """
        if entries := self._codec.encode(messages):
            appended = execute_write(self._backend.execute, self._append(entries))
            if self._compactor is not None:
                self._compactor.after_append(self.keys, self._policy, appended)

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages; the async variant of `add_messages`."""
        if entries := self._codec.encode(messages):
            appended = await aexecute_write(self._backend.aexecute, self._append(entries))
            if self._compactor is not None:
                await self._compactor.aafter_append(self.keys, self._policy, appended)

    def add_message(self, message: BaseMessage) -> None:
        """Append one message; see `add_messages`."""
        self.add_messages([message])

    async def aadd_message(self, message: BaseMessage) -> None:
        """Append one message; see `add_messages`."""
        await self.aadd_messages([message])

    def add_user_message(self, message: HumanMessage | str) -> None:
        """Append what the human says, as a message or as its text; see `add_messages`."""
        self.add_messages([HumanMessage(message) if isinstance(message, str) else message])

    async def aadd_user_message(self, message: HumanMessage | str) -> None:
        """Append what the human says; the async variant of `add_user_message`."""
        await self.aadd_messages([HumanMessage(message) if isinstance(message, str) else message])

    def add_ai_message(self, message: AIMessage | str) -> None:
        """Append what the model says, as a message or as its text; see `add_messages`."""
        self.add_messages([AIMessage(message) if isinstance(message, str) else message])

    async def aadd_ai_message(self, message: AIMessage | str) -> None:
        """Append what the model says; the async variant of `add_ai_message`."""
        await self.aadd_messages([AIMessage(message) if isinstance(message, str) else message])

    @property
    def messages(self) -> list[BaseMessage]:
        """The conversation as a model is to see it: a message with the summary where there is one, then the window.

        New messages each time: changing them changes nothing that is stored.

        Raises:
            MessageDecodeError: An entry is not a message, with `on_corrupt="raise"`.
            DecryptError: Something is encrypted with none of the history's keys, or was changed.
            MissingPackage: Something is compressed, and there is nothing to expand it.
            BackendError: The store refused or could not be reached.
        """
        return self._prompt(self._backend.execute(self._read()))

    async def aget_messages(self) -> list[BaseMessage]:
        """Return the conversation as a model is to see it; the async variant of `messages`."""
        return self._prompt(await self._backend.aexecute(self._read()))

    @property
    def summary(self) -> str | None:
        """The rolling summary; None: there is none."""
        return self._summary(self._backend.execute(self._read(window=False)))

    async def aget_summary(self) -> str | None:
        """Return the rolling summary; None: there is none."""
        return self._summary(await self._backend.aexecute(self._read(window=False)))

    def set_summary(self, summary: str | None) -> None:
        """Replace the rolling summary.

        Args:
            summary: The text; empty or None removes the summary, which does nothing where there is none.

        Raises:
            ValueError: The summary is not text that UTF-8 can encode, or looks encrypted where nothing is.
            BackendError: The store refused or could not be reached.
        """
        execute_write(self._backend.execute, self._set_summary(summary))

    async def aset_summary(self, summary: str | None) -> None:
        """Replace the rolling summary; the async variant of `set_summary`."""
        await aexecute_write(self._backend.aexecute, self._set_summary(summary))

    @property
    def turns(self) -> int:
        """The turn counter: how many human messages were appended, and turns registered by hand."""
        return self._backend.execute(self._read(window=False)).turns

    async def aget_turns(self) -> int:
        """Return the turn counter; the async variant of `turns`."""
        return (await self._backend.aexecute(self._read(window=False))).turns

    def register_turn(self) -> int:
        """Count one turn by hand, and return the turn counter."""
        return execute_write(self._backend.execute, RegisterTurn(self.keys, self._ttl))

    async def aregister_turn(self) -> int:
        """Count one turn by hand, and return the turn counter."""
        return await aexecute_write(self._backend.aexecute, RegisterTurn(self.keys, self._ttl))

    def snapshot(self) -> Snapshot:
        """Read all there is of the session at one moment, in one round trip."""
        return self._snapshot(self._backend.execute(self._read()))

    async def asnapshot(self) -> Snapshot:
        """Read all there is of the session at one moment; the async variant of `snapshot`."""
        return self._snapshot(await self._backend.aexecute(self._read()))

    def pop(self, count: int = 1) -> list[BaseMessage]:
        """Take the newest messages off, and the turns that they started off the turn counter.

        Args:
            count: How many messages, at least 1.

        Returns:
            The messages, oldest first; fewer where the window holds fewer.

        Raises:
            ValueError: The count is not a whole number of at least 1.
            DecryptError: One of them cannot be decrypted; all were put back.
            MissingPackage: One of them cannot be expanded; all were put back.
            BackendError: The store refused or could not be reached.
        """
        taken = execute_write(self._backend.execute, self._pop(count))
        try:
            return self._codec.decode(taken)
        except (DecryptError, MissingPackage):
            execute_write(self._backend.execute, self._append(tuple(taken)))
            raise

    async def apop(self, count: int = 1) -> list[BaseMessage]:
        """Take the newest messages off; the async variant of `pop`."""
        taken = await aexecute_write(self._backend.aexecute, self._pop(count))
        try:
            return self._codec.decode(taken)
        except (DecryptError, MissingPackage):
            await aexecute_write(self._backend.aexecute, self._append(tuple(taken)))
            raise

    def search(
        self, text: str, *, case_sensitive: bool = False, types: Collection[str] | None = None, limit: int | None = None
    ) -> list[BaseMessage]:
        """Find messages, among those that wait to be summarised and those of the window; no TTL is refreshed.

        Args:
            text: What a message's text, or its tool calls, must hold.
            case_sensitive: Whether capitals matter.
            types: The types of messages to look at, such as `human` and `ai`; None: all.
            limit: The most messages to return; None: all.

        Returns:
            The messages, oldest first.

        Raises:
            ValueError: An argument makes no sense.
            BackendError: The store refused or could not be reached.
        """
        query = Query(text, case_sensitive, types, limit)
        return query.first(self._codec.decode(self._backend.execute(ReadEntries(self.keys))))

    async def asearch(
        self, text: str, *, case_sensitive: bool = False, types: Collection[str] | None = None, limit: int | None = None
    ) -> list[BaseMessage]:
        """Find messages; the async variant of `search`."""
        query = Query(text, case_sensitive, types, limit)
        return query.first(self._codec.decode(await self._backend.aexecute(ReadEntries(self.keys))))

    def compact(self) -> bool:
        """Summarise now what waits to be summarised, whether or not it is due.

        Returns:
            Whether there is a new summary. There is none where nothing waits, where somebody else is at it, and where
            the summarizer fails, which is logged and shown in the store's status.

        Raises:
            ValueError: The history has no summarizer.
            DecryptError: What waits, or the summary, cannot be decrypted.
            BackendError: The store refused or could not be reached.
        """
        return self._summarizing().compact(self.keys, self._policy)

    async def acompact(self) -> bool:
        """Summarise now what waits to be summarised; the async variant of `compact`."""
        return await self._summarizing().acompact(self.keys, self._policy)

    def touch(self) -> bool:
        """Start the TTL anew, and tell whether there is such a session."""
        return self._backend.execute(Touch(self.keys, self._ttl))

    async def atouch(self) -> bool:
        """Start the TTL anew, and tell whether there is such a session."""
        return await self._backend.aexecute(Touch(self.keys, self._ttl))

    def clear(self) -> None:
        """Remove the session: messages, summary and turn counter. Clearing what is not there does nothing."""
        self._backend.execute(Clear(self.keys))

    async def aclear(self) -> None:
        """Remove the session; the async variant of `clear`."""
        await self._backend.aexecute(Clear(self.keys))

    def _append(self, entries: tuple[bytes, ...]) -> Append:
        return Append(self.keys, entries, self._bounds, self._ttl)

    def _read(self, window: bool = True) -> Read:
        return Read(self.keys, self._ttl, self._policy.refresh_ttl_on_read, window)

    def _pop(self, count: int) -> Pop:
        check_count("count", count)
        return Pop(self.keys, count, self._bounds.turn_starts, self._ttl)

    def _set_summary(self, summary: str | None) -> SetSummary:
        if summary is not None and not isinstance(summary, str):
            raise ValueError(f"summary must be text or None, not {type(summary).__name__}")
        try:
            (summary or "").encode()
        except UnicodeEncodeError:
            raise ValueError("summary must be text that UTF-8 can encode, without lone surrogates") from None
        return SetSummary(self.keys, self._codec.encode_summary(summary or ""), self._ttl)

    def _summarizing(self) -> Compactor:
        if self._compactor is None or self._policy.summarizer is None:
            raise ValueError(f"session {self.session_id!r} has no summarizer; pass summarizer= to its store or history")
        return self._compactor

    def _summary(self, view: SessionView) -> str | None:
        return self._codec.decode_summary(view.summary) or None

    def _prompt(self, view: SessionView) -> list[BaseMessage]:
        return build_prompt(self._codec.decode(view.entries), self._summary(view) or "", self._policy, self.session_id)

    def _snapshot(self, view: SessionView) -> Snapshot:
        return Snapshot(
            messages=self._codec.decode(view.entries),
            summary=self._summary(view),
            turns=view.turns,
            total=view.total,
            evicted=view.evicted,
            summarized=view.summarized,
            lost=view.lost,
            ttl=None if view.ttl_ms is None else view.ttl_ms / 1000,
        )

    def _page(self) -> display.Page:
        view = self._backend.execute(Read(self.keys, self._ttl, refresh=False))
        snapshot = self._snapshot(view)
        unread = len(view.entries) - len(snapshot.messages)
        return display.history_page(self.session_id, snapshot, self._backend.status, self._policy.max_messages, unread)


shows(Conversation, lambda conversation: conversation._page())
