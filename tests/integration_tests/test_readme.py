import re
from pathlib import Path

import pytest
import redis

from langchain_memstore import demo
from support.readme import README, python_blocks
from support.servers import COMMANDS, PASSWORD, USER, Server

URL = "redis://localhost:6379/0"


@pytest.fixture(params=COMMANDS)
def server_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def readme_user(admin: redis.Redis) -> None:
    """Makes the user under test the one of the README."""
    name, *rights = " ".join(re.findall(r"^ACL SETUSER memstore (.*)$", README, re.MULTILINE)).split()
    rights[rights.index(">PASSWORD")] = f">{PASSWORD}"
    admin.execute_command("ACL", "SETUSER", USER, "reset", name, *rights)
    admin.acl_log_reset()


def refused(admin: redis.Redis) -> set[str]:
    """The commands that the user asked for in vain, but for the server's being told the client's name."""
    return {entry["object"].split("|")[0] for entry in admin.acl_log()} - {"client"}


@pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")
@pytest.mark.usefixtures("readme_user")
def test_the_examples_run_on_redis(
    server: Server, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in python_blocks():
        block._replace(source=block.source.replace(URL, server.url)).run(namespace)
    assert refused(admin) == set()
    key, *starts = re.search(r"LRANGE '(.*)' 0 -1\n1\) \"(.*) \.\.\.\n2\) \"(.*) \.\.\.\n", README).groups()
    entries = admin.lrange(key, 0, -1)
    assert len(entries) == len(starts)
    for entry, start in zip(entries, starts, strict=True):
        assert entry.decode().startswith(start.replace("\\", ""))


@pytest.mark.filterwarnings("ignore:The class `InMemoryChatMessageHistory` was deprecated")
@pytest.mark.usefixtures("readme_user")
def test_the_examples_of_moving_in_run_on_redis(
    server: Server, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in python_blocks("docs/migration.md"):
        block._replace(source=block.source.replace(URL, server.url)).run(namespace)
    assert refused(admin) == set()


@pytest.mark.usefixtures("readme_user")
def test_the_demo_runs_on_redis(server: Server, admin: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    for start in (0, 17):
        demo.main(["--url", server.url, "--session", "trip"])
        printed = capsys.readouterr().out
        assert f"window 7 of 8, 3 pushed out; turns {6 if start == 0 else 12}; total {start + 17};" in printed
    assert "redis-cli LRANGE 'conversation:messages:{trip}' 0 -1" in printed
    assert "conversation:summary:{trip}" in printed
    assert refused(admin) == set()
    assert all(540 < admin.ttl(key) <= 600 for key in admin.keys("*{trip}"))
