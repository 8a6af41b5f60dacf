"""The world of langchain-core 2.0, in which the deprecated classes are gone."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys

for gone in ("langchain_core.chat_history", "langchain_core.runnables.history"):
    sys.modules[gone] = None  # importing it raises ImportError

import asyncio
from langchain_core.messages import AIMessage, HumanMessage
from langchain_memstore import LocalChatMessageHistory, Memstore, RunnableWithHistory

store = Memstore.from_url("memory://")
config = {"configurable": {"session_id": "s"}}

async def main(chain):
    assert await chain.ainvoke("hi", config) == "1"
    assert [part async for part in chain.astream("hi", config)] == ["3"]
    assert await chain.abatch(["hi"], config) == ["5"]

for factory in store.history, store.get_session_history, LocalChatMessageHistory:
    chain = RunnableWithHistory(lambda messages: str(len(messages)), factory)
    assert chain.invoke("hi", config) == "1"
    assert list(chain.stream("hi", config)) == ["3"]
    assert chain.batch(["hi"], config) == ["5"]
    assert factory("s").messages[:2] == [HumanMessage("hi"), AIMessage("1")]
    factory("s").clear()
    asyncio.run(main(chain))
    factory("s").clear()

history = store.history("t")
history.add_user_message("a")
history.add_ai_message("b")
history.add_message(HumanMessage("c"))
assert str(history) == "Human: a\\nAI: b\\nHuman: c"
print("through")
"""


def test_runs_without_the_deprecated_classes_and_without_a_warning() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", PROGRAM], capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout, ended.stderr) == ("through\n", "")


def test_running_warns_of_nothing_while_they_are_there() -> None:
    program = PROGRAM.replace("sys.modules[gone] = None", "pass")
    ended = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout, ended.stderr) == ("through\n", "")
