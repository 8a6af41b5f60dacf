"""A runnable that remembers: what `RunnableWithMessageHistory` should have been."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, aclosing, closing
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase, coerce_to_runnable
from langchain_core.runnables.utils import ConfigurableFieldSpec, get_unique_config_specs
from langchain_core.utils.pydantic import create_model_v2
from pydantic import RootModel
from typing_extensions import override

from langchain_memstore.run_messages import combine_chunks, frozen_copy, messages_of, new_messages, value_of

if TYPE_CHECKING:
    from langchain_core.runnables.graph import Graph

Function = TypeVar("Function", bound=Callable[..., Any])

SESSION_ID = ConfigurableFieldSpec(
    id="session_id",
    annotation=str,
    name="Session ID",
    description="Which conversation.",
    default="",
    is_shared=True,
)


def _signed(function: Function) -> Function:
    """Keep a function's signature with it: langchain-core asks for it several times in every run."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function


class RunnableWithHistory(Runnable[Any, Any]):
    """Wraps a runnable so that it sees the conversation so far, and what is said is appended to the conversation.

    Takes the arguments of `RunnableWithMessageHistory` and the same inputs and outputs. It fixes the new messages when
    a run starts, appends the input and the output as one when the run has succeeded, and raises where that fails. A
    run that fails, is cancelled, or whose stream is closed before its end appends nothing.

    Args:
        runnable: What to wrap. It takes a list of messages, or a dict; it returns a text, a message, a sequence of
            messages, or a dict with one of these. An agent graph may return its whole state, trimmed or not: only what
            follows the messages that it was given is appended.
        get_session_history: Returns the history of a session, as `Memstore.history` does. It takes the session id, or,
            by name, the ids of `history_factory_config`.
        input_messages_key: Where a dict input holds the new messages.
        output_messages_key: Where a dict output holds the answer.
        history_messages_key: Where a dict input takes the conversation so far; None: together with the new messages.
        history_factory_config: Which keys of `config["configurable"]` make out the conversation; by default
            `session_id`.
        save_input_on_error: Whether the input of a run that did not succeed is appended nevertheless.

    Raises:
        ValueError: The factory cannot be called with the configured keys.
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
        self._keys = [spec.id for spec in self.history_factory_config]
        self._factory_takes_keys = _takes_keys(get_session_history, self._keys)
        self._is_graph = _is_graph(self.runnable)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}(runnable={self.runnable.get_name()})"

    @property
    @override
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The keys that `config["configurable"]` may or must have."""
        return get_unique_config_specs([*self.runnable.config_specs, *self.history_factory_config])

    @property
    @override
    def InputType(self) -> Any:
        """What `invoke` takes where nothing says that it is a dict."""
        return str | HumanMessage | Sequence[AnyMessage]

    @property
    @override
    def OutputType(self) -> Any:
        """What the runnable returns."""
        return self.runnable.OutputType

    @override
    def get_input_schema(self, config: RunnableConfig | None = None) -> Any:
        """Return a model of the input: messages, or what the runnable takes beside the conversation so far."""
        if self.input_messages_key is None and self.history_messages_key is None:
            return super().get_input_schema(config)
        takes: Any = self.runnable.get_input_schema(config)
        own = {} if issubclass(takes, RootModel) else takes.model_fields
        fields = {key: (own[key].annotation, own[key]) for key in own if key != self.history_messages_key}
        if self.input_messages_key is not None:
            fields[self.input_messages_key] = (self.InputType, ...)
        return create_model_v2(self.get_name("Input"), field_definitions=fields)

    @override
    def get_output_schema(self, config: RunnableConfig | None = None) -> Any:
        """Return a model of what the runnable returns."""
        return self.runnable.get_output_schema(config)

    @override
    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """Return the graph of the runnable."""
        return self.runnable.get_graph(config)

    @override
    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run once; see the class.

        Raises:
            ValueError: The config lacks the session id, or input or output hold no messages.
            MemstoreError: The conversation could not be read, or not be appended to.
        """
        return self._call_with_config(self._invoke, input, config, **kwargs)  # type: ignore[arg-type]

    @override
    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run once; the async variant of `invoke`."""
        return await self._acall_with_config(self._ainvoke, input, config, **kwargs)  # type: ignore[arg-type]

    @override
    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Run once and yield the output as it comes; it is appended when the stream has been read to its end."""
        with ExitStack() as stack:  # closes the run with the stream; else that is left to the garbage collector

            def run(inputs: Iterator[Any], config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
                return stack.enter_context(closing(self._stream(inputs, config, **kwargs)))

            yield from self._transform_stream_with_config(iter([input]), run, config, **kwargs)  # type: ignore[arg-type]

    @override
    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """Run once and yield the output as it comes; the async variant of `stream`."""

        async def inputs() -> AsyncIterator[Any]:
            yield input

        parts: Any = self._atransform_stream_with_config(inputs(), self._astream, config, **kwargs)  # type: ignore[arg-type]
        async with aclosing(parts):
            async for part in parts:
                yield part

    @_signed
    def _invoke(self, input: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        run = self._start(input, config)
        given = self._build_input(run, input, run.history.messages)
        with run:
            output = self.runnable.invoke(given, config, **kwargs)
            to_save = self._messages_to_save(run, output)
        run.history.add_messages(to_save)
        return output

    @_signed
    async def _ainvoke(self, input: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        run = self._start(input, config)
        given = self._build_input(run, input, await run.history.aget_messages())
        async with run:
            output = await self.runnable.ainvoke(given, config, **kwargs)
            to_save = self._messages_to_save(run, output)
        await run.history.aadd_messages(to_save)
        return output

    def _stream(self, inputs: Iterator[Any], config: RunnableConfig, **kwargs: Any) -> Generator[Any, None, None]:
        (value,) = inputs
        run = self._start(value, config)
        given = self._build_input(run, value, run.history.messages)
        report = self._capture_output(config)
        output = []
        with run:
            for part in self.runnable.stream(given, config, **kwargs):
                output.append(part)
                yield part
            to_save = self._messages_to_save(run, combine_chunks(report.outputs or output))
        run.history.add_messages(to_save)

    async def _astream(self, inputs: AsyncIterator[Any], config: RunnableConfig, **kwargs: Any) -> AsyncIterator[Any]:
        (value,) = [part async for part in inputs]
        run = self._start(value, config)
        given = self._build_input(run, value, await run.history.aget_messages())
        report = self._capture_output(config)
        parts: Any = self.runnable.astream(given, config, **kwargs)
        output = []
        async with run, aclosing(parts):
            async for part in parts:
                output.append(part)
                yield part
            to_save = self._messages_to_save(run, combine_chunks(report.outputs or output))
        await run.history.aadd_messages(to_save)

    def _start(self, input: Any, config: RunnableConfig) -> _Run:
        asked = input
        if isinstance(input, dict):
            asked = value_of(input, self.input_messages_key, "input", "input")
        elif key := self.history_messages_key or self.input_messages_key:
            raise ValueError(f"input must be a dict with the key {key!r}, not {type(input).__name__}")
        return _Run(self._history(config), messages_of("input", asked, HumanMessage), self.save_input_on_error)

    def _history(self, config: RunnableConfig) -> Any:
        if not self._factory_takes_keys:
            return self.get_session_history()
        configurable = config.get("configurable", {})
        if missing := [key for key in self._keys if key not in configurable]:
            example = {"configurable": dict.fromkeys(self._keys, "...")}
            raise ValueError(f"config['configurable'] lacks {missing}; pass a config such as {example}")
        if len(self._keys) == 1:
            return self.get_session_history(configurable[self._keys[0]])
        return self.get_session_history(**{key: configurable[key] for key in self._keys})

    def _build_input(self, run: _Run, input: Any, history: list[BaseMessage]) -> Any:
        """Make what the runnable is given."""
        run.given = [*history, *run.asked]
        if self.history_messages_key is not None:
            return {**input, self.history_messages_key: [*history]}
        if self.input_messages_key is not None:
            return {**input, self.input_messages_key: [*run.given]}
        return [*run.given]

    def _capture_output(self, config: RunnableConfig) -> _Report:
        """Have a graph report its output; the parts of its stream are steps, tokens, or what else was asked for."""
        report = _Report()
        if self._is_graph:
            config["callbacks"].add_handler(report, inherit=False)  # type: ignore[union-attr]
        return report

    def _messages_to_save(self, run: _Run, output: Any) -> list[BaseMessage]:
        """Return what a run appends that has ended well."""
        if isinstance(output, dict):
            output = value_of(output, self.output_messages_key, "output", "output", "messages")
        messages = messages_of("output", output, AIMessage)
        return run.new + (
            new_messages(messages, run.given, run.asked) if isinstance(output, (list, tuple)) else messages
        )


class _Run:
    """One run on a conversation: a context that appends the run's input, if asked to, when it is left by an error."""

    def __init__(self, history: Any, asked: list[BaseMessage], save_input: bool) -> None:
        self.history = history
        self.asked = asked
        """The new messages, as the runnable is given them; it may change them."""
        self.new = frozen_copy(asked)
        """The new messages, as they are appended."""
        self.given = asked
        """All messages that the runnable is given."""
        self.save_input = save_input

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self.save_input:
            self.history.add_messages(self.new)

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self.save_input:  # shielded: who cancels a task may do so again and again
            await asyncio.shield(self.history.aadd_messages(self.new))


class _Report(BaseCallbackHandler):
    """Takes down the output that a run reports."""

    run_inline = True

    def __init__(self) -> None:
        self.outputs: list[Any] = []

    @override
    def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        self.outputs = [outputs]


def _takes_keys(factory: Callable[..., Any], keys: list[str]) -> bool:
    """Tell whether a factory takes arguments, having checked that they are the configured keys."""
    try:
        signature = inspect.signature(factory)
        if signature.parameters:
            signature.bind(*keys) if len(keys) == 1 else signature.bind(**dict.fromkeys(keys))
    except TypeError as error:
        raise ValueError(f"get_session_history cannot be called with {keys}: {error}") from None
    except ValueError:  # a builtin that does not tell, such as the `__getitem__` of a dict
        return True
    return bool(signature.parameters)


def _is_graph(runnable: Runnable[Any, Any]) -> bool:
    while isinstance(runnable, RunnableBindingBase):
        runnable = runnable.bound
    return hasattr(runnable, "stream_mode")
