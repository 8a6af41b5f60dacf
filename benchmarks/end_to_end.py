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

from benchmarks.contenders import TTL, Clients, Contender, Ours
from benchmarks.messages import conversation
from benchmarks.peers import Community
from benchmarks.rounds import Block, Comparison, atimed, timed
from langchain_memstore import RunnableWithHistory

WINDOW = 50
OLD = "old wrapper, community"
OLD_AS_DOCUMENTED = "connecting each run"
NEW = "RunnableWithHistory"


def compare(clients: Clients, loop: asyncio.AbstractEventLoop, variant: str) -> Comparison:
    """Compare the wrappers in one variant; the question and the answer have the size of any message."""
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

        def settle() -> None:
            pipeline = clients.redis.pipeline()
            contender.settle(pipeline)
            pipeline.execute()

        if variant == "sync":
            return timed(lambda: runnable.invoke([question], config), settle)
        return atimed(loop, lambda: runnable.ainvoke([question], config), settle)

    kept = Community(clients, f"kept-{variant}", WINDOW)
    ours, new, none = (Ours(clients, f"{name}-{variant}", WINDOW) for name in ("old", "new", "none"))
    blocks = {
        OLD: block(old(lambda session_id: kept.history), kept),
        OLD_AS_DOCUMENTED: block(old(connecting), Community(clients, f"made-{variant}", WINDOW)),
        "old wrapper, memstore": block(old(clients.store.get_session_history), ours),
        NEW: block(RunnableWithHistory(model, clients.store.history), new),
        "no memory": block(model, none),
    }
    return Comparison(blocks, weight=2.0)


def _model(answer: BaseMessage) -> Runnable[Any, Any]:
    async def aanswer(messages: Any) -> BaseMessage:
        return answer

    return RunnableLambda(lambda messages: answer, aanswer)
