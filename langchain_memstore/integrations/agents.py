"""Memory for the agents of LangChain v1: what `create_agent` makes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any
from weakref import WeakKeyDictionary

from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from typing_extensions import NotRequired, override

try:
    from langchain.agents.middleware.types import (
        AgentMiddleware,
        AgentState,
        ModelRequest,
        ModelResponse,
        PrivateStateAttr,
    )
    from langgraph.config import get_config
    from langgraph.runtime import Runtime
except ImportError as error:
    raise ImportError(
        "HistoryMiddleware needs langchain 1.2.5 or later: pip install 'langchain-memstore[agents]'"
    ) from error

NO_SESSION_ID = (
    "HistoryMiddleware finds no session id; call the agent with context={'session_id': '...'}, "
    "or with config={'configurable': {'thread_id': '...'}}"
)
REWRITTEN = (
    "session {!r}: a SummarizationMiddleware has put a summary in the place of the agent's messages, so that "
    "HistoryMiddleware cannot append them; take it out, and give the store a summarizer instead"
)


class HistoryState(AgentState[Any]):
    """What the agent's state holds beside its messages."""

    memstore_stored: NotRequired[Annotated[list[str], PrivateStateAttr]]
    """The ids of those messages of the thread that were appended, or were there, at the end of its last run."""


@dataclass(eq=False)
class _Run:
    """One run of the agent."""

    session_id: str
    window: list[BaseMessage]
    """The conversation as it was when the run began."""
    earlier: set[str | None]
    """The ids of the messages of the agent's state that were in the store when the run began."""
    anchor: str | None
    """The id of the last message of the state when the run began; no other run's state has it."""
    appended: set[str | None] = field(default_factory=set)
    """The ids of the run's own messages that were appended, where it goes on after its end."""

    def own(self, messages: Iterable[BaseMessage]) -> list[BaseMessage]:
        """Return those messages that are the run's own."""
        own = [message for message in messages if message.id not in self.earlier]
        if any(message.additional_kwargs.get("lc_source") == "summarization" for message in own):
            raise ValueError(REWRITTEN.format(self.session_id))
        return own

    def new(self, state: Mapping[str, Any]) -> list[BaseMessage]:
        """Return those messages of the state that are to be appended."""
        return [message for message in self.own(state["messages"]) if message.id not in self.appended]

    def end(self, state: Mapping[str, Any], runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Note that all messages of the state are stored; in the thread, too, where there may be one."""
        ids = [message.id for message in state["messages"]]
        self.appended.update(ids)
        return None if _thread_id(runtime) is None else {"memstore_stored": ids}


class HistoryMiddleware(AgentMiddleware[HistoryState, Any]):
    """Shows an agent the conversation so far, and appends what is said in a run to the conversation.

    The history goes into the model's prompt alone, never into the agent's state: nothing of it is streamed, returned,
    or kept in checkpoints. It is read once in a run; each call of the model sees it as it was then, followed by the
    run's own messages. System messages, the summary of a history among them, are merged into the agent's system
    message.

    A run's own messages are appended as one when the agent has come to its end. A run that fails, is cancelled or is
    interrupted appends nothing. With a checkpointer its messages stay in the thread, and are appended by the run that
    goes on from there: when it is resumed, or with the next turn. Where appending fails the run raises; resumed (by
    `invoke(None, config)`) it tries again, and messages that did arrive are not appended twice: they are known by their
    ids, in the history, and in a list that the agent's state keeps in each thread (`memstore_stored`).

    The session id is `session_id` of the runtime context, an attribute or a key; else the `thread_id` of the config;
    else the `session_id` of its `configurable` (which async runs do not tell before Python 3.11).

    Put it first in `middleware`, so that the others see the whole prompt, and what they have changed is what is
    appended. What a middleware takes out of the state before the run ends is not appended. Not compatible with
    `SummarizationMiddleware`: it puts a summary of its own in the place of the messages that are to be appended, which
    raises ValueError. The `summarizer` of the store does the same work, and keeps the messages until it is done.

    Args:
        get_history: Returns the history of a session, as `Memstore.history` does.

    Raises:
        ValueError: It cannot be called.
    """

    state_schema = HistoryState

    def __init__(self, get_history: Callable[[str], Any]) -> None:
        super().__init__()
        if not callable(get_history):
            raise ValueError(
                f"get_history must be a function such as Memstore.history, not {type(get_history).__name__}"
            )
        self.get_history = get_history
        # LangGraph makes a stream writer for each run of a graph; runs within that run may share it.
        self._runs: WeakKeyDictionary[Any, list[_Run]] = WeakKeyDictionary()

    @override
    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any] | AIMessage:
        """Call the model with the history before the run's own messages.

        Raises:
            ValueError: There is no session id, or the state was rewritten.
            MemstoreError: The conversation could not be read.
        """
        session_id, state, runtime = _session_id(request.runtime), request.state, request.runtime
        run = self._find(session_id, state, runtime)
        if run is None:
            run = self._begin(session_id, state, runtime, self.get_history(session_id).messages)
        return handler(_with_history(request, run))

    @override
    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any] | AIMessage:
        """Call the model with the history; the async variant of `wrap_model_call`."""
        session_id, state, runtime = _session_id(request.runtime), request.state, request.runtime
        run = self._find(session_id, state, runtime)
        if run is None:
            run = self._begin(session_id, state, runtime, await self.get_history(session_id).aget_messages())
        return await handler(_with_history(request, run))

    @override
    def after_agent(self, state: HistoryState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Append the run's own messages.

        Raises:
            ValueError: There is no session id, or the state was rewritten.
            MemstoreError: The messages could not be appended.
        """
        session_id = _session_id(runtime)
        history, run = self.get_history(session_id), self._find(session_id, state, runtime)
        if run is None:  # the run was resumed after its last call of the model, perhaps to append once more
            run = self._begin(session_id, state, runtime, history.messages)
        if new := run.new(state):
            history.add_messages(new)
        return run.end(state, runtime)

    @override
    async def aafter_agent(self, state: HistoryState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Append the run's own messages; the async variant of `after_agent`."""
        session_id = _session_id(runtime)
        history, run = self.get_history(session_id), self._find(session_id, state, runtime)
        if run is None:
            run = self._begin(session_id, state, runtime, await history.aget_messages())
        if new := run.new(state):
            await history.aadd_messages(new)
        return run.end(state, runtime)

    def _find(self, session_id: str, state: Mapping[str, Any], runtime: Runtime[Any]) -> _Run | None:
        """Return the run that is under way; None: it has not begun, or was resumed."""
        ids = {None, *(message.id for message in state["messages"])}
        for run in self._runs.get(runtime.stream_writer, []):
            if run.session_id == session_id and run.anchor in ids:
                return run
        return None

    def _begin(
        self, session_id: str, state: Mapping[str, Any], runtime: Runtime[Any], window: list[BaseMessage]
    ) -> _Run:
        """Tell what of the state is stored: all up to the last message that is known to be, by its id."""
        messages: Sequence[BaseMessage] = state["messages"]
        listed = {*state.get("memstore_stored", ())}
        held = {message.id: message.content for message in window if message.id is not None}
        end = 0
        for index, message in enumerate(messages, 1):
            if message.id in listed or (message.id in held and held[message.id] == message.content):
                end = index
        earlier = {message.id for message in messages[:end]}
        run = _Run(session_id, window, earlier, messages[-1].id if messages else None)
        self._runs.setdefault(runtime.stream_writer, []).append(run)
        return run


def _session_id(runtime: Runtime[Any]) -> str:
    """Find out which conversation a run is part of."""
    context = runtime.context
    found = context.get("session_id") if isinstance(context, Mapping) else getattr(context, "session_id", None)
    if found is None and (found := _thread_id(runtime)) is None:
        found = _configurable().get("session_id")
    if found is None:
        raise ValueError(NO_SESSION_ID)
    return found  # type: ignore[no-any-return]


def _thread_id(runtime: Runtime[Any]) -> str | None:
    known = getattr(runtime, "execution_info", None)  # later than langgraph 1.0
    thread_id = _configurable().get("thread_id") if known is None else known.thread_id
    return None if thread_id is None else str(thread_id)


def _configurable() -> Mapping[str, Any]:
    try:
        return get_config().get("configurable", {})
    except RuntimeError:  # in a task of Python 3.10
        return {}


def _with_history(request: ModelRequest[Any], run: _Run) -> ModelRequest[Any]:
    """Put the history before the run's own messages, and all system messages into one."""
    system = [] if request.system_message is None else [request.system_message]
    spoken: list[Any] = []
    for message in [*run.window, *run.own(request.messages)]:
        if isinstance(message, SystemMessage):
            system.append(message)
        else:
            spoken.append(message)
    return request.override(system_message=_merge_system(system), messages=spoken)


def _merge_system(messages: list[SystemMessage]) -> SystemMessage | None:
    if len(messages) < 2:
        return messages[0] if messages else None
    contents = [message.content for message in messages]
    texts = [content for content in contents if isinstance(content, str)]
    if len(texts) == len(contents):
        return messages[0].model_copy(update={"content": "\n\n".join(texts)})
    blocks = [[{"type": "text", "text": each}] if isinstance(each, str) else each for each in contents]
    return messages[0].model_copy(update={"content": [block for each in blocks for block in each]})
