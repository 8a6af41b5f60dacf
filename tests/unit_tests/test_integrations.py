"""The adapters as parts of the package: what they load, what they need, and the world of langchain-core 2.0."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .test_package import HEAVY, loaded_after


def test_the_package_of_adapters_loads_none_of_them() -> None:
    loaded = loaded_after("import langchain_memstore.integrations")
    assert not loaded & {*HEAVY, "agents", "openai"}


@pytest.mark.parametrize(
    ("module", "needed", "message"),
    [
        (
            "agents",
            "langchain",
            "HistoryMiddleware needs langchain 1.2.5 or later: pip install 'langchain-memstore[agents]'",
        ),
        (
            "openai_agents",
            "agents",
            "MemstoreSession needs openai-agents 0.8 or later: pip install 'langchain-memstore[openai-agents]'",
        ),
    ],
)
def test_an_extra_that_is_not_installed(module: str, needed: str, message: str) -> None:
    code = f"import sys; sys.modules[{needed!r}] = None; import langchain_memstore.integrations.{module}"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.stderr.splitlines()[-1] == f"ImportError: {message}"


PROGRAM = """
import sys

for gone in ("langchain_core.chat_history", "langchain_core.runnables.history"):
    sys.modules[gone] = None  # importing it raises ImportError

import asyncio
from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel
from langchain_memstore import Memstore
from langchain_memstore.integrations.agents import HistoryMiddleware
from langchain_memstore.integrations.openai_agents import MemstoreSession

store = Memstore.from_url("memory://")
agent = create_agent(FakeListChatModel(responses=["a", "b"]), [], middleware=[HistoryMiddleware(store.history)])
hi = {"messages": [("user", "hi")]}
agent.invoke(hi, context={"session_id": "s"})
asyncio.run(agent.ainvoke(hi, context={"session_id": "s"}))
assert [message.text for message in store.history("s").messages] == ["hi", "a", "hi", "b"]

async def main(session):
    await session.add_items([{"role": "user", "content": "hi"}])
    assert await session.get_items() == [await session.pop_item()]

asyncio.run(main(MemstoreSession("s", store)))
print("through")
"""


@pytest.mark.parametrize("gone", [True, False])
def test_the_adapters_need_no_deprecated_class(gone: bool) -> None:
    program = PROGRAM if gone else PROGRAM.replace("sys.modules[gone] = None", "pass")
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("through\n", "")
