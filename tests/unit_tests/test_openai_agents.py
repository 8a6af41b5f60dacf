"""MemstoreSession, under the Runner of the OpenAI Agents SDK."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from agents import (
    Agent,
    ModelResponse,
    RunConfig,
    Runner,
    RunState,
    Session,
    SessionSettings,
    Usage,
    function_tool,
)
from agents.models.interface import Model
from agents.run_internal.session_persistence import rewind_session_items
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseFunctionWebSearch,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseReasoningItem,
)

from langchain_memstore import BackendUnavailable, DecryptError, Memstore, MessageDecodeError, MessageEncodeError
from langchain_memstore.integrations.openai_agents import KINDS, MemstoreSession, kind_of
from langchain_memstore.ops.reading import Read

# A model by script


def called(number: int, name: str = "add", **args: Any) -> ResponseFunctionToolCall:
    args = args or {"a": number, "b": number}
    made = {"call_id": f"call_{number}", "name": name, "arguments": json.dumps(args), "status": "completed"}
    return ResponseFunctionToolCall(id=f"fc_{number}", type="function_call", **made)


def reasoned(number: int) -> ResponseReasoningItem:
    return ResponseReasoningItem(id=f"rs_{number}", summary=[], type="reasoning", encrypted_content="...")


def answered(text: str) -> ResponseOutputMessage:
    content = [ResponseOutputText(text=text, type="output_text", annotations=[])]
    return ResponseOutputMessage(
        id=f"msg_{text}", content=content, role="assistant", status="completed", type="message"
    )


def searched(number: int) -> ResponseFunctionWebSearch:
    action: Any = {"type": "search", "query": "x"}
    return ResponseFunctionWebSearch(id=f"ws_{number}", action=action, status="completed", type="web_search_call")


class ScriptedModel(Model):
    """A model that gives its responses in turn; one that is an error is raised."""

    def __init__(self, *responses: Any) -> None:
        self.responses = list(responses)
        self.inputs: list[list[Any]] = []

    def _next(self, items: Any) -> list[Any]:
        self.inputs.append(copy.deepcopy(items))
        assert objections(items) == []
        response = self.responses.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:
        return ModelResponse(output=self._next(input), usage=Usage(), response_id=None)

    async def stream_response(
        self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any
    ) -> AsyncIterator[Any]:
        made = {"id": "r", "created_at": 0, "model": "m", "object": "response", "output": self._next(input)}
        response = Response(**made, tool_choice="auto", tools=[], parallel_tool_calls=True)
        yield ResponseCompletedEvent(type="response.completed", sequence_number=0, response=response)


def objections(items: list[Any]) -> list[str]:
    """What the Responses API has against the order of items."""
    found, calls = [], set()
    for item, following in zip(items, [*items[1:], None], strict=True):
        kind = item.get("type")
        if kind == "reasoning" and (following is None or kind_of(following) not in ("assistant", "call")):
            found.append(f"Item '{item['id']}' of type 'reasoning' was provided without its required following item.")
        if kind == "function_call":
            calls.add(item["call_id"])
        if kind == "function_call_output" and item["call_id"] not in calls:
            found.append(f"No tool call found for function call output with call_id {item['call_id']}.")
    outputs = {item["call_id"] for item in items if item.get("type") == "function_call_output"}
    return found + [f"No tool output found for function call {each}." for each in calls - outputs]


@function_tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@function_tool(needs_approval=True)
def buy(what: str) -> str:
    """Buy something."""
    return f"bought {what}"


def types(items: list[Any]) -> list[str]:
    return [item.get("type") if item.get("type", "message") != "message" else item["role"] for item in items]


async def run(agent: Agent, input: Any, session: Any, **options: Any) -> Any:
    return await Runner.run(agent, input, session=session, **options)


async def run_streamed(agent: Agent, input: Any, session: Any, **options: Any) -> Any:
    result = Runner.run_streamed(agent, input, session=session, **options)
    async for _ in result.stream_events():
        pass
    return result


every_way = pytest.mark.parametrize("way", [run, run_streamed], ids=["run", "streamed"])


def assistant(*responses: Any) -> tuple[Agent, ScriptedModel]:
    model = ScriptedModel(*responses)
    return Agent("a", model=model, tools=[add, buy]), model


FIRST = [[reasoned(1), called(1), called(2)], [answered("2 and 4")]]
FIRST_ITEMS = ["user", "reasoning", *["function_call"] * 2, *["function_call_output"] * 2, "assistant"]


# Under the Runner


@every_way
async def test_the_agent_sees_the_conversation(store: Memstore, way: Any) -> None:
    agent, model = assistant(*FIRST, [answered("Welcome.")])
    session = MemstoreSession("s", store)
    assert isinstance(session, Session)
    assert (await way(agent, "Add.", session)).final_output == "2 and 4"
    items = await session.get_items()
    assert types(items) == FIRST_ITEMS
    assert items[1] == reasoned(1).model_dump(exclude_unset=True)
    assert items[2] == called(1).model_dump(exclude_unset=True)
    assert [item["output"] for item in items[4:6]] == ["2", "4"]
    await way(agent, "Thanks.", MemstoreSession("s", store))
    assert model.inputs[2] == [*items, {"role": "user", "content": "Thanks."}]
    assert types(await session.get_items()) == [*FIRST_ITEMS, "user", "assistant"]
    assert await turns(session, store) == 2


async def turns(session: MemstoreSession, store: Memstore) -> int:
    return await store.history("s", key_prefix=session.keys.prefix).aget_turns()


@every_way
async def test_a_run_waits_for_approval(store: Memstore, way: Any) -> None:
    """What is stored in between is a row of calls of which one has no output; no bound cuts it open."""
    session = MemstoreSession("s", store, max_messages=2)
    agent, model = assistant([called(1), called(2, "buy", what="a"), called(3, "buy", what="b")], [answered("Done.")])
    result = await way(agent, "Buy.", session)
    assert types(await session.get_items()) == ["function_call"] * 3 + ["function_call_output"]
    state = await RunState.from_json(agent, result.to_state().to_json())
    for approval in state.get_interruptions():
        state.approve(approval)
    await way(agent, state, session)
    assert types(model.inputs[1]) == ["user", *["function_call"] * 3, *["function_call_output"] * 3]
    assert types(await session.get_items()) == ["assistant"]
    assert await turns(session, store) == 1


class Flaky(MemstoreSession):
    """A session that fails to append once it is asked to; the items may arrive nevertheless."""

    fails, arrives = False, False

    async def add_items(self, items: Any) -> None:
        if not self.fails or self.arrives:
            await super().add_items(items)
        if self.fails:
            self.fails = False
            raise BackendUnavailable("lost")


@pytest.mark.parametrize("arrives", [False, True])
@every_way
async def test_outputs_are_appended_again_after_a_failure(store: Memstore, way: Any, arrives: bool) -> None:
    """The SDK reads the end of the session to find out whether they arrived."""
    session = Flaky("s", store)
    agent, _ = assistant([reasoned(1), called(1, "buy", what="a"), called(2, "buy", what="b")], [answered("Done.")])
    state = (await way(agent, "Buy.", session)).to_state()
    for approval in state.get_interruptions():
        state.approve(approval)
    session.fails, session.arrives = True, arrives
    with pytest.raises(BackendUnavailable):
        await way(agent, state, session)
    session.arrives = False
    await way(agent, state, session)
    outputs = [item["output"] for item in await session.get_items() if "output" in item]
    assert outputs == ["bought a", "bought b"]
    assert types(await session.get_items()) == FIRST_ITEMS


@pytest.mark.parametrize("most", range(1, 12))
@every_way
async def test_the_window_is_legal(store: Memstore, way: Any, most: int) -> None:
    """The model, too, checks what it is given."""
    session = MemstoreSession("s", store, max_messages=most)
    agent, model = assistant(*FIRST, [searched(1), answered("found")], *FIRST, [answered("bye")])
    for text in "Add.", "Find.", "Add.", "Bye.":
        await way(agent, text, session)
        items = await session.get_items()
        assert 0 < len(items) <= max(most, 2)  # a search and its answer stay together
    assert len(model.inputs) == 6


@pytest.mark.parametrize("limit", range(10))
@pytest.mark.parametrize("where", ["session", "run"])
@every_way
async def test_the_limit_of_the_settings(store: Memstore, way: Any, limit: int, where: str) -> None:
    limits = SessionSettings(limit=limit)
    session = MemstoreSession("s", store, session_settings=limits if where == "session" else None)
    agent, model = assistant(*FIRST, [answered("Welcome.")])
    await way(agent, "Add.", session)
    await way(agent, "Thanks.", session, run_config=RunConfig(session_settings=limits if where == "run" else None))
    seen = {0: 0, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1}.get(limit, min(limit, 7))
    assert types(model.inputs[2]) == [*(FIRST_ITEMS[-seen:] if seen else []), "user"]


@every_way
async def test_a_run_that_fails(store: Memstore, way: Any) -> None:
    """The SDK stores what was asked before it calls the model, and keeps it."""
    session = MemstoreSession("s", store)
    agent, _ = assistant(RuntimeError("overloaded"))
    with pytest.raises(RuntimeError, match="overloaded"):
        await way(agent, "Add.", session)
    assert await session.get_items() == [{"role": "user", "content": "Add."}]


@pytest.mark.parametrize("taken", [1, 6, 7])
async def test_the_sdk_takes_back_what_it_stored(store: Memstore, taken: int) -> None:
    """It looks whether the session ends with that, and then pops it."""
    session = MemstoreSession("s", store)
    agent, _ = assistant(*FIRST)
    await run(agent, "Add.", session)
    items = await session.get_items()
    await rewind_session_items(session, items[-taken:])
    assert await session.get_items() == items[:-taken]


async def test_outputs_that_the_caller_made_are_taken_back(store: Memstore) -> None:
    session = MemstoreSession("s", store)
    calls = [called(number).model_dump(exclude_unset=True) for number in (1, 2)]
    outputs = [{"type": "function_call_output", "call_id": f"call_{n}", "output": "x"} for n in (1, 2)]
    await session.add_items([{"role": "user", "content": "Add."}, *calls])
    await session.add_items(outputs)
    await rewind_session_items(session, outputs)
    assert types(await session.get_items()) == ["user", "function_call", "function_call"]


# By itself


USER = {"role": "user", "content": "hi"}
ITEMS: list[Any] = [
    USER,
    {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "data:", "detail": "auto"}]},
    {"role": "assistant", "content": "hello"},
    answered("x").model_dump(),
    {"role": "system", "content": "be brief"},
    {"type": "computer_call", "id": "cu", "call_id": "c", "action": {"type": "click", "x": 1.5, "y": -0.0}},
    {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "image_url": "data:"}},
    {"type": "mcp_call", "id": "m", "name": "n", "arguments": "{}", "server_label": "l", "output": None},
    {"type": "item_reference", "id": "x"},
    {"type": "function_call_output", "call_id": "c", "output": "\ud800 ü🔑\x00"},
    {"provider_data": {"big": 2**70, "nan": Decimal("1.10"), "bytes": b"\xff", "pair": (1, 2), "__memstore__": 1}},
    {1: 2},
    {},
]


async def test_items_come_back_as_they_were(store: Memstore) -> None:
    session = MemstoreSession("s", store)
    await session.add_items([])
    assert await session.get_items() == []
    given = copy.deepcopy(ITEMS)
    await session.add_items(given)
    given[1]["content"].clear()
    assert await session.get_items() == ITEMS
    (await session.get_items())[1]["content"].clear()
    assert repr(await session.get_items()) == repr(ITEMS)
    assert [await session.pop_item() for _ in ITEMS] == ITEMS[::-1]
    assert await session.pop_item() is None


async def test_popping_and_clearing(store: Memstore) -> None:
    session = MemstoreSession("s", store)
    await session.add_items([USER, {"role": "assistant", "content": "hello"}, USER])
    assert (await session.pop_item(), await turns(session, store)) == (USER, 1)
    await session.clear_session()
    await session.clear_session()
    assert (await session.get_items(), await session.pop_item(), await turns(session, store)) == ([], None, 0)


async def test_what_cannot_be_kept(store: Memstore) -> None:
    session = MemstoreSession("s", store)
    deep: dict[str, Any] = {}
    for _ in range(10_000):
        deep = {"in": deep}
    refused = [
        ([USER, "hi"], r"items\[1\] must be a dict.*not str"),
        ([{"type": "message", "content": object()}], r"items\[0\].content is of builtins.object"),
        ([deep], r"items\[0\] is nested too deeply"),
    ]
    for items, message in refused:
        with pytest.raises(MessageEncodeError, match=message):
            await session.add_items(items)  # type: ignore[arg-type]
    assert await session.get_items() == []


async def test_entries_that_are_not_items(store: Memstore, caplog: pytest.LogCaptureFixture) -> None:
    session = MemstoreSession("s", store)
    other = store.history("s", key_prefix=session.keys.prefix)
    await session.add_items([USER])
    other.add_user_message("not an item")
    with caplog.at_level(logging.WARNING, "langchain_memstore"):
        assert await session.get_items() == [USER]
        assert "session 's': skipped entries that are not items, at index [1]" in caplog.text
    with pytest.raises(MessageDecodeError, match=r"session 's', entry 1: not an item.*on_corrupt"):
        await MemstoreSession("s", store, on_corrupt="raise").get_items()
    assert await session.pop_item() == USER
    assert await session.pop_item() is None


async def test_a_history_of_the_same_id_is_another_conversation(store: Memstore) -> None:
    session, history = MemstoreSession("s", store), store.history("s")
    history.add_user_message("hello")
    await session.add_items([USER, USER])
    assert (len(history.messages), history.turns, len(await session.get_items())) == (1, 1, 2)
    assert [info.session_id for info in store.sessions()] == ["s"]
    assert await turns(session, store) == 2
    await session.clear_session()
    assert len(history.messages) == 1


async def test_options(store: Memstore) -> None:
    session = MemstoreSession("s", Memstore(store._backend, key_prefix="conversation:app", max_turns=1), ttl=60)
    assert session.keys.messages == "conversation:app:items:messages:{s}"
    await session.add_items([USER, {"role": "assistant", "content": "1"}, {**USER, "content": "2"}])
    assert await session.get_items() == [{**USER, "content": "2"}]
    (info,) = Memstore(store._backend, key_prefix="conversation:app:items").sessions()
    assert 50 < (info.ttl or 0) <= 60
    summing = Memstore(store._backend, summarizer=lambda *_: "")
    for refused in (summing, {}), (store, {"max_tokens": 5}), (store, {"summarize": "manual"}):
        with pytest.raises(ValueError, match=r"session 's': a MemstoreSession keeps items.*summarizer=None"):
            MemstoreSession("s", refused[0], **refused[1])  # type: ignore[arg-type]
    MemstoreSession("s", summing, summarizer=None)
    for limit in -1, True, "2":
        with pytest.raises(ValueError, match="limit must be at least 1 or None"):
            await session.get_items(limit)  # type: ignore[arg-type]
    assert await session.get_items(0) == []
    with pytest.raises(ValueError, match="session_id must be"):
        MemstoreSession("", store)
    assert repr(session) == f"MemstoreSession(session_id='s', backend={store._backend!r})"


async def test_two_event_loops_and_many_tasks(store: Memstore) -> None:
    session = MemstoreSession("s", store, max_messages=None)

    async def add(number: int) -> None:
        await session.add_items([{**USER, "content": str(number)}, {"role": "assistant", "content": str(number)}])

    async def everything() -> None:
        await asyncio.gather(*map(add, range(20)))

    await everything()
    await asyncio.to_thread(asyncio.run, everything())
    items: list[Any] = await session.get_items()
    assert [item["role"] for item in items] == ["user", "assistant"] * 40
    assert [item["content"] for item in items[::2]] == [item["content"] for item in items[1::2]]


@pytest.mark.parametrize(
    ("kind", "items"),
    [
        ("user", [{"role": "user"}, {"role": "user", "type": "message"}]),
        ("assistant", [{"role": "assistant"}, {"role": "assistant", "type": "message"}]),
        ("other", [{"role": "system"}, {"role": "developer"}, {"type": "compaction"}, {"type": "new"}, {"type": None}]),
        ("result", [{"type": "function_call_output"}, {"type": "shell_call_output"}, {"type": "tool_search_output"}]),
        ("result", [{"type": "mcp_approval_response"}, {"type": "mcp_call", "approval_request_id": "x"}]),
        ("call", [{"type": "reasoning"}, {"type": "function_call"}, {"type": "mcp_call", "approval_request_id": None}]),
        ("call", [{"type": "mcp_approval_request"}, {"type": "mcp_list_tools"}, {"type": "image_generation_call"}]),
        ("call", [{"type": "tool_search_call"}, {"type": "program"}, {"type": "computer_call"}]),
        ("result", [{"type": "program_output"}, {"type": "custom_tool_call_output"}, {"type": "computer_call_output"}]),
    ],
)
def test_kinds(kind: str, items: list[Any]) -> None:
    assert {kind_of(item) for item in items} == {kind} <= {*KINDS}


# Windows of conversations in which responses are rows of any length, with outputs behind them

REASONING, TEXT, CALL, SEARCH = "reasoning", "message", "function_call", "web_search_call"
rows = st.lists(st.sampled_from([REASONING, TEXT, CALL, CALL, SEARCH]), max_size=4).filter(lambda row: CALL in row)
last_rows = st.sampled_from([[TEXT], [TEXT], [REASONING, TEXT], [SEARCH, TEXT], [REASONING, SEARCH, TEXT]])
numbers = count()


@st.composite
def conversations(draw: Any) -> tuple[list[Any], list[int]]:
    """Items, and which of them may head a window."""
    items: list[Any] = []
    heads: list[int] = []
    for _ in range(draw(st.integers(1, 4))):
        heads.append(len(items))
        items.append({"role": draw(st.sampled_from(["user", "user", "developer"])), "content": "?"})
        for row in [*draw(st.lists(rows, max_size=3)), draw(last_rows)]:
            heads.append(len(items))
            start = len(items)
            for kind in row:
                number = len(items)
                item: dict[str, Any] = {"type": kind, "id": str(number)}
                items.append(
                    item | {REASONING: {}, TEXT: {"role": "assistant"}, CALL: {"call_id": number}}.get(kind, {})
                )
            calls = [item["call_id"] for item in items[start:] if item["type"] == CALL]
            items += [{"type": "function_call_output", "call_id": call} for call in draw(st.permutations(calls))]
    # Of several texts in a row each may head a window, as then nothing else is lost.
    heads += [at for at in range(1, len(items)) if kind_of(items[at]) == kind_of(items[at - 1]) == "assistant"]
    return items, sorted({*heads})


def cut(items: list[Any], heads: list[int], most: int) -> list[Any]:
    """The last items, from the first of them that may head a window, or else from the last one that may before."""
    start = len(items) - most
    if start <= 0:
        return items
    return items[next((head for head in heads if head >= start), max(heads)) :]


@given(conversations(), st.integers(1, 9), st.lists(st.integers(1, 5), min_size=30, max_size=30))
@settings(max_examples=80)
def test_windows(said: tuple[list[Any], list[int]], most: int, sizes: list[int]) -> None:
    check_windows(Memstore.from_url("memory://"), *said, most, sizes)


def check_windows(store: Memstore, items: list[Any], heads: list[int], most: int, sizes: list[int]) -> None:
    """Whatever the batches are, the window is what the plain rule says, and every limited read of it, too."""

    async def check() -> None:
        session = MemstoreSession(f"s{next(numbers)}", store, max_messages=most)
        done, expected = 0, []
        for size in sizes:
            batch = items[done : done + size]
            await session.add_items(batch)
            expected = cut(expected + batch, positions(expected + batch, items, heads, done + len(batch)), most)
            done += len(batch)
            window = await session.get_items()
            assert window == expected
            if done == len(items):
                for limit in range(1, len(window) + 1):
                    ahead = positions(window, items, heads, done)
                    legal = cut(window, ahead, limit)
                    assert await session.get_items(limit) == (legal if len(legal) <= limit else window[-limit:])

    asyncio.run(check())


def positions(window: list[Any], items: list[Any], heads: list[int], end: int) -> list[int]:
    """Which items of a window may head one; the window ends where so many of all items have been said."""
    first = end - len(window)
    return [0, *(head - first for head in heads if first < head < end)]


# Encryption

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
SECRET = [
    {"role": "user", "content": "a secret question"},
    {"type": "function_call", "call_id": "1", "name": "add", "arguments": '{"secret": 1}'},
    {"type": "function_call_output", "call_id": "1", "output": "a secret result"},
    {"role": "assistant", "content": "a secret answer"},
]


async def stored(session: MemstoreSession) -> list[bytes]:
    data = await session._backend.aexecute(Read(session.keys, None, refresh=False))
    return data.entries


async def test_items_are_encrypted_with_the_keys_of_the_store() -> None:
    store = Memstore.from_url("memory://", encryption_keys=[KEY])
    session = MemstoreSession("session", store)
    await session.add_items(SECRET)
    assert not any(b"secret" in entry for entry in await stored(session))
    assert await session.get_items() == SECRET
    rotated = MemstoreSession("session", store, encryption_keys=[OTHER_KEY, KEY])
    assert await rotated.get_items() == SECRET
    assert await session.pop_item() == SECRET[-1]
    assert await session.get_items(2) == SECRET[1:3]


@pytest.mark.parametrize("keys", [None, [OTHER_KEY]])
async def test_items_that_cannot_be_decrypted_are_neither_skipped_nor_lost(keys: Any) -> None:
    store = Memstore.from_url("memory://", encryption_keys=[KEY], on_corrupt="skip")
    await MemstoreSession("session", store).add_items(SECRET)
    other = MemstoreSession("session", store, encryption_keys=keys)
    for read in (other.get_items, other.pop_item):
        with pytest.raises(DecryptError, match="'session'"):
            await read()
    assert await MemstoreSession("session", store).get_items() == SECRET


async def test_items_from_before_there_were_keys() -> None:
    store = Memstore.from_url("memory://")
    await MemstoreSession("session", store).add_items(SECRET)
    with pytest.raises(DecryptError, match="accept_plaintext=True"):
        await MemstoreSession("session", store, encryption_keys=[KEY]).get_items()
    session = MemstoreSession("session", store, encryption_keys=[KEY], accept_plaintext=True)
    assert await session.get_items() == SECRET


@pytest.mark.parametrize("most", range(1, 9))
async def test_windows_of_encrypted_items_are_those_of_plain_ones(most: int) -> None:
    store = Memstore.from_url("memory://", max_messages=most)
    plain, sealed = MemstoreSession("plain", store), MemstoreSession("sealed", store, encryption_keys=[KEY])
    for session in (plain, sealed):
        for item in SECRET * 3:
            await session.add_items([item])
    assert await sealed.get_items() == await plain.get_items()
