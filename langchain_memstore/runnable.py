"""A runnable that remembers: what `RunnableWithMessageHistory` should have been."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    BaseMessageChunk,
    HumanMessage,
    convert_to_messages,
    message_chunk_to_message,
)
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.base import coerce_to_runnable
from langchain_core.runnables.utils import ConfigurableFieldSpec, get_unique_config_specs

SESSION_ID = ConfigurableFieldSpec(
    id="session_id",
    annotation=str,
    name="Session ID",
    description="Which conversation.",
    default="",
    is_shared=True,
)


@dataclass
class _Run:
    """One run of a runnable on a conversation."""

    history: Any
    """The history that the run belongs to."""
    asked: list[BaseMessage]
    """The new messages, as the runnable was given them."""
    new: list[BaseMessage] = field(init=False)
    """The new messages, as they were when the run started."""
    given: list[BaseMessage] = field(default_factory=list)
    """All messages that the runnable was given."""

    def __post_init__(self) -> None:
        self.new = [message.model_copy() for message in self.asked]


class RunnableWithHistory(Runnable[Any, Any]):
    """Wraps a runnable so that it sees the conversation so far, and what is said is appended to the conversation.

    Takes the arguments of `RunnableWithMessageHistory` and the same inputs and outputs. It fixes the new messages when
    a run starts, appends the input and the output as one when the run has succeeded, and raises where that fails. A
    run that fails, is cancelled, or whose stream is closed before its end appends nothing.

    Args:
        runnable: What to wrap. It takes a list of messages, or a dict; it returns a text, a message, a sequence of
            messages, or a dict with one of these. An agent graph may return its whole state: only what is new is
            appended.
        get_session_history: Returns the history of a session, as `Memstore.history` does. It takes the session id, or,
            by name, the ids of `history_factory_config`.
        input_messages_key: Where a dict input holds the new messages.
        output_messages_key: Where a dict output holds the answer.
        history_messages_key: Where a dict input takes the conversation so far; None: together with the new messages.
        history_factory_config: Which keys of `config["configurable"]` make out the conversation; by default
            `session_id`.
        save_input_on_error: Whether the input of a run that did not succeed is appended nevertheless.
    """

    def __init__(
        self,
        runnable: Any,
        get_session_history: Callable[..., Any],
        *,
        input_messages_key: str | None = None,
        output_messages_key: str | None = None,
        history_messages_key: str | None = None,
        history_factory_config: Sequence[ConfigurableFieldSpec] | None = None,
        save_input_on_error: bool = False,
    ) -> None:
        self.runnable: Runnable[Any, Any] = coerce_to_runnable(runnable)
        self.get_session_history = get_session_history
        self.input_messages_key = input_messages_key
        self.output_messages_key = output_messages_key
        self.history_messages_key = history_messages_key
        self.history_factory_config = list(history_factory_config or [SESSION_ID])
        self.save_input_on_error = save_input_on_error
        self._takes_no_arguments = not self._check_factory()

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The keys that `config["configurable"]` may or must have."""
        return get_unique_config_specs([*self.runnable.config_specs, *self.history_factory_config])

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run once; see the class.

        Raises:
            ValueError: The config lacks the session id, or input or output hold no messages.
            MemstoreError: The conversation could not be read, or not be appended to.
        """
        return self._call_with_config(self._invoke, input, config, **kwargs)  # type: ignore[arg-type]

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run once; the async face of `invoke`."""
        return await self._acall_with_config(self._ainvoke, input, config, **kwargs)  # type: ignore[arg-type]

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Run once and yield the output as it comes; it is appended when the stream has been read to its end."""
        yield from self.transform(iter([input]), config, **kwargs)

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Run once on an input that comes in parts; see `stream`."""
        yield from self._transform_stream_with_config(input, self._stream, config, **kwargs)  # type: ignore[arg-type]

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """Run once and yield the output as it comes; the async face of `stream`."""

        async def one() -> AsyncIterator[Any]:
            yield input

        async for chunk in self.atransform(one(), config, **kwargs):
            yield chunk

    async def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Run once on an input that comes in parts; see `astream`."""
        async for chunk in self._atransform_stream_with_config(input, self._astream, config, **kwargs):  # type: ignore[arg-type]
            yield chunk

    def _check_factory(self) -> bool:
        """Tell whether the factory of histories takes arguments, having checked that they are the configured keys."""
        signature = inspect.signature(self.get_session_history)
        keys = [spec.id for spec in self.history_factory_config]
        if signature.parameters:
            try:
                signature.bind(*keys) if len(keys) == 1 else signature.bind(**dict.fromkeys(keys))
            except TypeError as error:
                raise ValueError(f"get_session_history cannot be called with {keys}: {error}") from None
        return bool(signature.parameters)

    def _start(self, input: Any, config: RunnableConfig) -> _Run:
        return _Run(self._history(config), self._input_messages(input))

    def _history(self, config: RunnableConfig) -> Any:
        if self._takes_no_arguments:
            return self.get_session_history()
        configurable = config.get("configurable", {})
        keys = [spec.id for spec in self.history_factory_config]
        if missing := [key for key in keys if key not in configurable]:
            example = {"configurable": dict.fromkeys(keys, "...")}
            raise ValueError(f"config['configurable'] lacks {missing}; pass a config such as {example}")
        if len(keys) == 1:
            return self.get_session_history(configurable[keys[0]])
        return self.get_session_history(**{key: configurable[key] for key in keys})

    def _input_messages(self, value: Any) -> list[BaseMessage]:
        if isinstance(value, dict):
            value = _value(value, self.input_messages_key, "input", ("input",))
        elif self.history_messages_key is not None:
            raise ValueError(f"input must be a dict with history_messages_key, not {type(value).__name__}")
        return _messages("input", value, HumanMessage)

    def _with_history(self, input: Any, run: _Run, history: list[BaseMessage]) -> Any:
        """Make what the runnable is given."""
        run.given = [*history, *run.asked]
        if self.history_messages_key is not None:
            return {**input, self.history_messages_key: history}
        if self.input_messages_key is not None and isinstance(input, dict):
            return {**input, self.input_messages_key: run.given.copy()}
        return run.given.copy()

    def _said(self, run: _Run, output: Any) -> list[BaseMessage]:
        """Return what a successful run appends."""
        if isinstance(output, dict):
            output = _value(output, self.output_messages_key, "output", ("output", "messages"))
        messages = _messages("output", output, AIMessage)
        return run.new + (_only_new(messages, run) if isinstance(output, Sequence) else messages)

    def _invoke(self, input: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        run = self._start(input, config)
        given = self._with_history(input, run, run.history.messages)
        try:
            output = self.runnable.invoke(given, config, **kwargs)
            said = self._said(run, output)
        except BaseException:
            if self.save_input_on_error:
                run.history.add_messages(run.new)
            raise
        run.history.add_messages(said)
        return output

    async def _ainvoke(self, input: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        run = self._start(input, config)
        given = self._with_history(input, run, await run.history.aget_messages())
        try:
            output = await self.runnable.ainvoke(given, config, **kwargs)
            said = self._said(run, output)
        except BaseException:
            if self.save_input_on_error:
                await run.history.aadd_messages(run.new)
            raise
        await run.history.aadd_messages(said)
        return output

    def _stream(self, inputs: Iterator[Any], config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
        value = _merged(list(inputs))
        run = self._start(value, config)
        given = self._with_history(value, run, run.history.messages)
        chunks = []
        try:
            for chunk in self.runnable.stream(given, config, **kwargs):
                chunks.append(chunk)
                yield chunk
            said = self._said(run, _merged(chunks))
        except BaseException:
            if self.save_input_on_error:
                run.history.add_messages(run.new)
            raise
        run.history.add_messages(said)

    async def _astream(self, inputs: AsyncIterator[Any], config: RunnableConfig, **kwargs: Any) -> AsyncIterator[Any]:
        value = _merged([part async for part in inputs])
        run = self._start(value, config)
        given = self._with_history(value, run, await run.history.aget_messages())
        chunks = []
        try:
            async for chunk in self.runnable.astream(given, config, **kwargs):
                chunks.append(chunk)
                yield chunk
            said = self._said(run, _merged(chunks))
        except BaseException:
            if self.save_input_on_error:
                await run.history.aadd_messages(run.new)
            raise
        await run.history.aadd_messages(said)


def _value(mapping: dict[str, Any], key: str | None, which: str, usual: tuple[str, ...]) -> Any:
    """Return what holds the messages of a dict: under its key, its only key, or a usual one."""
    if key is None:
        key = next(iter(mapping)) if len(mapping) == 1 else next((name for name in usual if name in mapping), usual[0])
    if key not in mapping:
        raise ValueError(f"{which} has no key {key!r}, only {sorted(map(str, mapping))}; pass {which}_messages_key")
    return mapping[key]


def _messages(which: str, value: Any, text: type[HumanMessage] | type[AIMessage]) -> list[BaseMessage]:
    if isinstance(value, str):
        return [text(value)]
    if isinstance(value, BaseMessage):
        return [_whole(value)]
    if isinstance(value, (list, tuple)):
        return [_whole(message) for message in convert_to_messages(value)]
    raise ValueError(f"{which} must be a text, a message or a list of messages, not {type(value).__name__}")


def _whole(message: BaseMessage) -> BaseMessage:
    return message_chunk_to_message(message) if isinstance(message, BaseMessageChunk) else message


def _merged(chunks: list[Any]) -> Any:
    """Add up the parts of a stream; where they do not add up, the last is the whole."""
    if not chunks:
        return []
    try:
        if isinstance(chunks[0], str):
            return "".join(chunks)
        if isinstance(chunks[0], BaseMessageChunk) and len(chunks) > 1:
            return chunks[0] + chunks[1:]
        return functools.reduce(operator.add, chunks)
    except TypeError:
        return chunks[-1]


def _only_new(messages: list[BaseMessage], run: _Run) -> list[BaseMessage]:
    """Leave out of an output what the runnable was given: a graph returns its whole state."""
    for echo in (run.given, run.asked):
        if echo and len(messages) >= len(echo) and all(map(_same, messages, echo)):
            return messages[len(echo) :]
    return [message for message in messages if not any(_identical(message, each) for each in run.given)]


def _identical(one: BaseMessage, other: BaseMessage) -> bool:
    return one is other or (one.id is not None and one.id == other.id)


def _same(one: BaseMessage, other: BaseMessage) -> bool:
    """Tell whether a message is another, perhaps with the id that a graph gave it."""
    if _identical(one, other):
        return True
    if one.id is not None and other.id is not None:
        return False
    return one.model_copy(update={"id": None}) == other.model_copy(update={"id": None})
