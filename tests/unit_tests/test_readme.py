from pathlib import Path

import pytest

from langchain_memstore import MemstoreSettings, errors
from langchain_memstore.options import ConnectionOptions, HistoryOptions, LayerPolicy, Policy
from support.readme import PAGES, README, python_blocks, table


@pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")
@pytest.mark.filterwarnings("ignore:The class `InMemoryChatMessageHistory` was deprecated")
@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run_and_print_what_they_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, page: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in MemstoreSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    namespace: dict[str, object] = {}
    for block in python_blocks(page):
        if not block.needs_redis:
            block.run(namespace)


def test_the_tables_name_every_option_with_its_default() -> None:
    documented = {name: default.replace('"', "'") for name, default, _ in table("option")}
    assert sorted(documented) == sorted(f"`{name}`" for name in HistoryOptions.__annotations__ | _REDIS)
    defaults = vars(Policy()) | _REDIS
    for name in documented.keys() - {"`token_counter`"}:
        assert documented[name] == f"`{defaults[name.strip('`')]!r}`", name


_REDIS = vars(LayerPolicy()) | {
    "max_connections": 20,
    "socket_timeout": 5.0,
    "socket_connect_timeout": 5.0,
    "credential_provider": None,
}
assert ConnectionOptions.__annotations__.keys() < _REDIS.keys()


def test_the_table_names_every_environment_variable() -> None:
    assert [row[0] for row in table("variable")] == [f"`{name.upper()}`" for name in MemstoreSettings.model_fields]


def test_shows_the_tree_of_errors() -> None:
    tree = [line[4:] for line in (errors.__doc__ or "").splitlines() if line.startswith("    ")]
    assert "\n".join(tree) in README
