"""The cache of what language models answered."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk

from langchain_memstore import Memstore
from langchain_memstore.kv import GenerationCache
from langchain_memstore.ops.kv import Set
from support.clock import Clock

ANSWER = AIMessage(
    [{"type": "text", "text": "There."}, {"type": "image", "data": b"\x00"}],
    id="run-1",
    name="guide",
    tool_calls=[{"name": "look", "args": {"x": [1, None]}, "id": "call_1", "type": "tool_call"}],
    usage_metadata={"input_tokens": 3, "output_tokens": 4, "total_tokens": 7, "output_token_details": {"reasoning": 2}},
    response_metadata={"logprobs": {"content": [-0.5, float("-inf")]}, "model_name": "m", "cost": Decimal("0.10")},
    additional_kwargs={"refusal": None},
)
ANSWERS: list[list[Generation]] = [
    [],
    [Generation(text="")],
    [Generation(text="\x00 ü🔑", generation_info={"finish_reason": "stop", "1": (2,)}), Generation(text="two")],
    [ChatGeneration(message=ANSWER, generation_info={"finish_reason": "tool_calls", "raw": b"\xff"})],
    [ChatGeneration(message=AIMessage("one")), ChatGeneration(message=AIMessage("two"))],
]


@pytest.mark.parametrize("answer", ANSWERS)
async def test_answers_come_back_equal(store: Memstore, answer: list[Generation]) -> None:
    cache = store.cache()
    cache.update("prompt", "model", answer)
    found = cache.lookup("prompt", "model")
    assert found == answer == await cache.alookup("prompt", "model")
    assert [(type(each), each.text) for each in found or []] == [(type(each), each.text) for each in answer]
    await cache.aupdate("prompt", "model", answer[:1])
    assert cache.lookup("prompt", "model") == answer[:1]


def test_chunks_are_kept_as_what_they_stand_for(store: Memstore) -> None:
    cache = store.cache()
    cache.update("p", "m", [GenerationChunk(text="a"), ChatGenerationChunk(message=AIMessageChunk("b", id="1"))])
    assert cache.lookup("p", "m") == [Generation(text="a"), ChatGeneration(message=AIMessage("b", id="1"))]


def test_what_was_handed_out_can_be_changed(store: Memstore) -> None:
    cache = store.cache()
    cache.update("p", "m", ANSWERS[3])
    found: Any = cache.lookup("p", "m")
    found[0].message.tool_calls[0]["args"]["x"].append(2)
    assert cache.lookup("p", "m") == ANSWERS[3]


def test_prompt_and_model_tell_answers_apart_and_are_not_readable(store: Memstore) -> None:
    cache, asked = (
        store.cache(),
        [("a", "bc"), ("ab", "c"), ("", "abc"), ("abc", ""), ('a", "b', "c"), ("\ud800", "\x00")],
    )
    for number, (prompt, model) in enumerate(asked):
        cache.update(prompt, model, [Generation(text=str(number))])
    assert [cache.lookup(*each) for each in asked] == [[Generation(text=str(n))] for n in range(len(asked))]
    cache.update("secret prompt", "model", [])
    keys = list(store._backend._state.values)  # type: ignore[attr-defined]
    assert len(keys) == 7 and all(len(key) == len("conversation:cache:{}") + 64 for key in keys)
    assert "secret" not in str(keys)


async def test_clearing_touches_nothing_else(store: Memstore) -> None:
    others = [store.cache(), Memstore(store._backend, key_prefix="other").cache()]
    for cache in others:
        cache.update("p", "m", ANSWERS[1])
    store.kv().set("p", 1)
    store.kv("cache").set("p", 1)
    store.history("cache").add_user_message("hello")
    others[0].clear()
    assert [cache.lookup("p", "m") for cache in others] == [None, ANSWERS[1]]
    await others[1].aclear()
    assert others[1].lookup("p", "m") is None
    assert (store.kv().get("p"), store.kv("cache").get("p"), store.history("cache").turns) == (1, 1, 1)


def test_answers_are_kept_for_their_time(store: Memstore, clock: Clock) -> None:
    store.cache(ttl=10).update("p", "m", ANSWERS[1])
    store.cache().update("for good", "m", ANSWERS[1])
    clock.now += 10
    assert store.cache().lookup("p", "m") is None
    assert store.cache().lookup("for good", "m") == ANSWERS[1]
    with pytest.raises(ValueError, match="ttl must be"):
        store.cache(ttl=-1)


def test_an_answer_that_cannot_be_kept_is_still_an_answer(store: Memstore, caplog: pytest.LogCaptureFixture) -> None:
    cache = store.cache()
    model = GenericFakeChatModel(messages=iter([AIMessage("hello", response_metadata={"raw": object()})]), cache=cache)
    with caplog.at_level(logging.WARNING):
        assert model.invoke("hi").text == "hello"
    assert "an answer is not cached: messages[0].data.response_metadata.raw is of builtins.object" in caplog.text


@pytest.mark.parametrize(
    "held", [b"{", b"7", b'[["chat","{}",null]]', b'[["text",7,null]]', b'[["other","",null]]', b"[[]]"]
)
def test_an_entry_that_cannot_be_read_is_none(store: Memstore, caplog: pytest.LogCaptureFixture, held: bytes) -> None:
    cache = store.cache()
    cache.update("p", "m", ANSWERS[1])
    (key,) = store._backend._state.values  # type: ignore[attr-defined]
    store._backend.execute(Set(((key, held),), None))
    assert cache.lookup("p", "m") is None
    assert "holds no answers" in caplog.text


def test_models_ask_the_cache(store: Memstore) -> None:
    cache: GenerationCache = store.cache()
    chat = GenericFakeChatModel(messages=iter([ANSWER]), cache=cache)
    first, second = chat.invoke("where?"), chat.invoke("where?")
    assert first == ANSWER and second.tool_calls == ANSWER.tool_calls
    model = FakeListLLM(responses=["one", "two"], cache=cache)
    assert [model.invoke("hi"), model.invoke("hi"), model.invoke("ho")] == ["one", "one", "two"]


async def test_models_ask_the_cache_async(store: Memstore) -> None:
    chat = GenericFakeChatModel(messages=iter([ANSWER]), cache=store.cache())
    assert (await chat.ainvoke("where?")).text == (await chat.ainvoke("where?")).text == "There."
