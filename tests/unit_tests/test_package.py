"""The package itself: its names, and that importing it costs nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version

import pytest

import langchain_memstore
import langchain_memstore.kv


def loaded_after(code: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after it ran some code."""
    shown = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-W", "error", "-c", shown], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


HEAVY = {"redis", "pydantic_settings", "langchain_core", "pydantic", "orjson", "langgraph", "langchain"}


def test_importing_loads_nothing_else() -> None:
    loaded = loaded_after("import langchain_memstore\nfrom langchain_memstore import MemstoreError, __version__")
    assert "langchain_memstore" in loaded
    assert not loaded & HEAVY


def test_a_store_in_the_process_loads_neither_redis_nor_settings() -> None:
    loaded = loaded_after(
        "from langchain_memstore import Memstore, LocalChatMessageHistory\n"
        "with Memstore.from_url('memory://') as store:\n"
        "    store.history('s').add_user_message('hello')\n"
        "    assert store.history('s').turns == 1\n"
        "    store.kv().set('key', 1), store.lock('a').__enter__(), store.working_memory().store('c', 1)"
    )
    assert "langchain_core" in loaded
    assert not loaded & {"redis", "pydantic_settings"}


@pytest.mark.parametrize("name", langchain_memstore.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(langchain_memstore, name)
    assert isinstance(value, str) if name == "__version__" else value.__name__ == name
    assert getattr(langchain_memstore, name) is value
    assert name in dir(langchain_memstore)


def test_the_list_of_names_is_whole_and_in_order() -> None:
    names = {name for home in langchain_memstore._HOMES.values() for name in home} | {"__version__"}
    assert set(langchain_memstore.__all__) == names
    assert langchain_memstore.__all__ == sorted(names)


@pytest.mark.parametrize("name", langchain_memstore.kv.__all__)
def test_every_public_name_of_the_key_value_family_is_there(name: str) -> None:
    assert getattr(langchain_memstore.kv, name).__name__ == name
    assert name in dir(langchain_memstore.kv)
    homes = langchain_memstore.kv._HOMES.values()
    assert sorted(name for home in homes for name in home) == langchain_memstore.kv.__all__
    with pytest.raises(AttributeError, match=r"'langchain_memstore.kv' has no attribute 'Nope'"):
        _ = langchain_memstore.kv.Nope


def test_star_import_takes_the_public_names() -> None:
    taken: dict[str, object] = {}
    exec("from langchain_memstore import *", taken)
    assert set(langchain_memstore.__all__) <= set(taken)


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(AttributeError, match="'langchain_memstore' has no attribute 'Nope'"):
        _ = langchain_memstore.Nope  # type: ignore[attr-defined]


def test_the_version_is_that_of_the_installed_package() -> None:
    assert langchain_memstore.__version__ == version("langchain-memstore")
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", langchain_memstore.__version__)


def test_one_root_for_all_errors() -> None:
    errors = [
        value
        for name in langchain_memstore.__all__
        if isinstance(value := getattr(langchain_memstore, name), type) and issubclass(value, BaseException)
    ]
    assert len(errors) >= 7
    assert all(issubclass(error, langchain_memstore.MemstoreError) for error in errors)
    assert issubclass(langchain_memstore.MessageEncodeError, ValueError)
    assert issubclass(langchain_memstore.MessageDecodeError, ValueError)
