"""A whole turn through the wrappers that LangChain users call, around a model that answers at once."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

from langchain_community.chat_message_histories import RedisChatMessageHistory
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from benchmarks.contenders import TTL, Clients, Community, Contender, Ours
from benchmarks.messages import conversation
from benchmarks.rounds import Block, Measured, atimed, interleave, timed
from langchain_memstore import RunnableWithHistory

WINDOW = 50
OLD = "old wrapper, community"
OLD_AS_DOCUMENTED = "connecting each run"
NEW = "RunnableWithHistory"


def measure(clients: Clients, loop: asyncio.AbstractEventLoop, face: str, seconds: float) -> Measured:
    """Measure the wrappers in one face; the question and the answer have the size of any message."""
    clients.redis.flushall()
    question, answer = conversation(6)[4:]
    model = _model(answer)

    def old(factory: Callable[..., Any]) -> Runnable[Any, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is deprecated, which is why it is measured
            return RunnableWithMessageHistory(model, factory)

    def connecting(session_id: str) -> RedisChatMessageHistory:
        return RedisChatMessageHistory(session_id, url=clients.url, key_prefix="community:", ttl=TTL)

    def block(runnable: Runnable[Any, Any], contender: Contender) -> Block:
        config: RunnableConfig = {"configurable": {"session_id": contender.session_id}}
        contender.fill([question, answer] * (WINDOW // 2))
        if face == "sync":
            return timed(lambda: runnable.invoke([question], config), contender.settle)
        return atimed(loop, lambda: runnable.ainvoke([question], config), contender.settle)

    kept = Community(clients, "kept", WINDOW)
    blocks = {
        OLD: block(old(lambda session_id: kept.history), kept),
        OLD_AS_DOCUMENTED: block(old(connecting), Community(clients, "made", WINDOW)),
        "old wrapper, memstore": block(old(clients.store.get_session_history), Ours(clients, "old", WINDOW)),
        NEW: block(RunnableWithHistory(model, clients.store.history), Ours(clients, "new", WINDOW)),
        "no memory": block(model, Ours(clients, "none", WINDOW)),
    }
    return interleave(blocks, seconds)


def _model(answer: BaseMessage) -> Runnable[Any, Any]:
    async def aanswer(messages: Any) -> BaseMessage:
        return answer

    return RunnableLambda(lambda messages: answer, aanswer)
