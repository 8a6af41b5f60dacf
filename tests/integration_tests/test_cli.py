"""The `memstore` command as a process of its own, on real servers: signals, pipes, terminals, rights and outages."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from langchain_core.messages import HumanMessage

from langchain_memstore import Memstore
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.transfer import Restore, SessionDump
from support.contents import everything
from support.conversations import converse
from support.servers import PASSWORD, USER, Server, every_server
from support.waiting import wait_until

TALK = converse([[1, 0], [2, 1, 0], [0]])
COMMAND = [sys.executable, "-W", "error", "-m", "langchain_memstore.cli"]
PATIENCE = 60

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(server: Server, tmp_path: Path) -> dict[str, str]:
    """The environment of the command, which says where the store is."""
    here = str(Path(__file__).parent.parent.parent)
    return {**os.environ, "REDIS_URL": server.url, "PYTHONPATH": here, "TERM": "xterm", "COLUMNS": "120"}


@pytest.fixture
def memstore(environment: dict[str, str], tmp_path: Path) -> Run:
    """Runs the command to its end."""

    def run(*arguments: str, stdin: str = "", **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            env={**environment, **changed},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    return run


@pytest.fixture
def store(server: Server) -> Iterator[Memstore]:
    with Memstore.from_url(server.url, max_messages=3, summarize="manual", summarize_every=1) as store:
        yield store


def make_sessions(store: Memstore, count: int = 2) -> None:
    for number in range(count):
        store.history(f"user-{number}").add_messages(TALK)


@every_server
def test_every_command_serves_the_user_with_few_rights(
    memstore: Run, store: Memstore, admin: redis.Redis, tmp_path: Path
) -> None:
    make_sessions(store)
    admin.acl_log_reset()
    for arguments, code in (
        (["sessions"], 0),
        (["show", "user-0"], 0),
        (["search", "human"], 0),
        (["stats"], 0),
        (["export", "file"], 0),
        (["import", "file"], 1),
        (["import", "file", "--force"], 0),
        (["clear", "user-0", "--yes"], 0),
        (["import", "file"], 0),
    ):
        ended = memstore(*arguments)
        said = ended.stderr.replace("memstore: exported 2 conversations to file\n", "")
        assert (arguments, ended.returncode, said) == (arguments, code, "")
    assert {entry["object"].split("|")[0] for entry in admin.acl_log()} <= {"client"}
    assert sorted(info.session_id for info in store.sessions()) == ["user-0", "user-1"]


def test_who_stops_reading_ends_it_quietly(environment: dict[str, str], store: Memstore) -> None:
    make_sessions(store, 300)  # more than a pipe holds
    store.history("never", ttl=None).add_user_message("a finding of the doctor's")
    for arguments in (["export"], ["sessions", "--json"], ["search", "ai"], ["doctor"], ["--help"]):
        process = subprocess.Popen(
            [*COMMAND, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout and process.stderr
        with process.stdout, process.stderr:
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == ""
        done = (0, 1) if arguments == ["doctor"] else (0,)  # it may have said all that it had to before
        assert process.wait(PATIENCE) in done, arguments


def test_an_outage_is_one_sentence_and_2(memstore: Run, start_server: Callable[..., Server]) -> None:
    server = start_server()
    server.kill()
    url = f"redis://{USER}:{PASSWORD}@127.0.0.1:{server.port}/0"
    for arguments in (
        ["sessions"],
        ["show", "x"],
        ["doctor"],
        ["export", "f"],
        ["worker", "--summarizer", "json:dumps"],
    ):
        ended = memstore(*arguments, "--url", url)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert re.fullmatch(r"memstore: .*cannot be reached.*\n", ended.stderr)
        assert PASSWORD not in ended.stderr
    ended = memstore("sessions", "--url", url.replace(PASSWORD, "wrong"))
    assert "wrong" not in ended.stderr


def test_a_login_that_is_refused_is_one_sentence_and_2(memstore: Run, server: Server) -> None:
    ended = memstore("sessions", "--url", server.url.replace(PASSWORD, "wr0ng"))
    assert ended.returncode == 2
    assert re.fullmatch(r"memstore: .*login was refused.*\n", ended.stderr)
    assert "wr0ng" not in ended.stderr


# Completion


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("memstore s", {"sessions", "show", "search", "stats"}),
        ("memstore show user-", {"user-0", "user-1"}),
        ("memstore clear user-1", {"user-1"}),
        ("memstore show --key-prefix other ", {"theirs"}),
        ("memstore import --from ", {"jsonl", "community", "langchain-redis"}),
    ],
)
def test_a_shell_completes(memstore: Run, store: Memstore, server: Server, words: str, offered: set[str]) -> None:
    make_sessions(store)
    with Memstore.from_url(server.open_url, key_prefix="other") as other:
        other.history("theirs").add_user_message("hi")
    ended = memstore(
        _MEMSTORE_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split(" ")) - 1),
        REDIS_URL=server.open_url,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert set(ended.stdout.split()) == offered


def test_a_shell_that_completes_hears_of_no_outage(memstore: Run) -> None:
    ended = memstore(
        _MEMSTORE_COMPLETE="complete_bash",
        COMP_WORDS="memstore show x",
        COMP_CWORD="2",
        REDIS_URL="redis://127.0.0.1:1",
    )
    assert (ended.stdout.strip(), ended.stderr) == ("", "")


# Terminals


@pytest.fixture
def terminal(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts the command on a terminal."""
    pexpect = pytest.importorskip("pexpect")
    started = []

    def start(*arguments: str) -> Any:
        child = pexpect.spawn(
            COMMAND[0],
            [*COMMAND[1:], *arguments],
            env=environment,
            cwd=str(tmp_path),
            encoding="utf-8",
            timeout=PATIENCE,
            dimensions=(40, 120),
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.close(force=True)


def ended(child: Any) -> tuple[int, str]:
    """Wait for the end, and return the exit code and what was printed."""
    import pexpect

    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus, child.before


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 0), ("n", 1, 1), ("", 1, 1)])
def test_clear_asks_on_a_terminal(
    terminal: Callable[..., Any], store: Memstore, answer: str, code: int, left: int
) -> None:
    make_sessions(store, 1)
    child = terminal("clear", "user-0")
    child.expect(r"Remove session 'user-0'\? \[y/N\]")
    child.sendline(answer)
    assert ended(child)[0] == code
    assert len(list(store.sessions())) == left


def test_an_interrupted_question_clears_nothing(terminal: Callable[..., Any], store: Memstore) -> None:
    make_sessions(store, 1)
    child = terminal("clear", "user-0")
    child.expect("Remove")
    child.sendintr()
    assert ended(child)[0] == 130
    assert len(list(store.sessions())) == 1


def test_long_work_shows_how_far_it_is_on_a_terminal_alone(
    terminal: Callable[..., Any], memstore: Run, store: Memstore
) -> None:
    make_sessions(store, 50)
    code, shown = ended(terminal("export", "file"))
    assert code == 0 and "Exporting" in shown and "exported 50 conversations" in shown
    code, shown = ended(terminal("import", "file", "--force"))
    assert code == 0 and "Importing" in shown and "50/?" in shown
    code, shown = ended(terminal("doctor"))
    assert code == 0 and "Examining" in shown and "50/50" in shown
    for arguments in (["doctor", "--json"], ["import", "file", "--force", "--json"], ["export"]):
        _, shown = ended(terminal(*arguments))
        assert not re.search("Examining|Importing|Exporting", shown)
        assert "\x1b" not in shown
    for arguments in (["doctor"], ["import", "file", "--force"]):
        silent = memstore(*arguments)
        assert silent.stderr == ""
        assert "\x1b" not in silent.stdout


# The worker

SUMMARIZER = """
import time

def count(previous, messages):
    return f"{previous} {len(messages)}".strip()

def slow(previous, messages):
    open("begun", "w").close()
    time.sleep(30)
    return "too late"

def failing(previous, messages):
    raise RuntimeError("no model")
"""


@pytest.fixture
def worker(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts workers with the functions of `SUMMARIZER`."""
    (tmp_path / "maker.py").write_text(SUMMARIZER)
    started: list[subprocess.Popen[str]] = []

    def start(name: str, *arguments: str, **changed: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [*COMMAND, "worker", "--summarizer", f"maker:{name}", "--summarize-every", "1", *arguments],
                env={**environment, **changed},
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def summaries(store: Memstore) -> list[str | None]:
    return sorted(str(store.history(info.session_id).summary) for info in store.sessions())


def next_line(process: subprocess.Popen[str]) -> str:
    """Wait for what a process prints next, which nothing else follows yet."""
    assert process.stdout is not None
    wait_until(lambda: select.select([process.stdout], [], [], 0)[0])
    return process.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_makes_summaries_until_it_is_told_to_stop(
    worker: Callable[..., subprocess.Popen[str]], store: Memstore, number: signal.Signals
) -> None:
    make_sessions(store)
    process = worker("count", "--interval", "0.05", "--json")
    wait_until(lambda: summaries(store) == ["10", "10"])
    assert json.loads(next_line(process))["summaries"] == 2
    store.history("user-0").add_messages(TALK)
    wait_until(lambda: summaries(store) == ["10", "10 13"])
    assert json.loads(next_line(process))["summaries"] == 1
    process.send_signal(number)
    assert process.communicate(timeout=PATIENCE) == ("", "memstore: stopped\n")
    assert process.returncode == 0


def test_a_worker_that_stops_in_the_midst_gives_its_claim_up(
    worker: Callable[..., subprocess.Popen[str]], store: Memstore, tmp_path: Path
) -> None:
    make_sessions(store, 1)
    process = worker("slow")
    wait_until((tmp_path / "begun").exists)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "memstore: stopped\n")
    assert time.monotonic() - start < 10
    assert store.history("user-0").snapshot().evicted == 10
    process = worker("count", "--once")  # the claim would have kept it out for a minute
    assert re.search(r"summaries made: 1\n$", process.communicate(timeout=PATIENCE)[0])
    assert (process.returncode, summaries(store)) == (0, ["10"])


def test_a_worker_waits_while_the_store_is_away(
    worker: Callable[..., subprocess.Popen[str]], start_server: Callable[..., Server]
) -> None:
    server = start_server()
    process = worker("count", "--interval", "0.05", REDIS_URL=server.open_url)
    with Memstore.from_url(server.open_url, max_messages=3, summarize="manual") as store:
        make_sessions(store)
        wait_until(lambda: summaries(store) == ["10", "10"])
        server.kill()
        assert process.stderr
        assert "waits: Redis: cannot be reached" in process.stderr.readline()
        server.start()
        make_sessions(store)
        wait_until(lambda: summaries(store) == ["10", "10"])
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=PATIENCE)[1].endswith("memstore: stopped\n")
    assert process.returncode == 0


def test_a_worker_that_fails_says_so_and_loses_nothing(
    worker: Callable[..., subprocess.Popen[str]], store: Memstore
) -> None:
    make_sessions(store, 1)
    process = worker("failing", "--once")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "summaries made: 0" in out
    assert "no summary was made, nothing is lost: RuntimeError: no model" in err
    assert store.history("user-0").snapshot().evicted == 10


# The doctor


def checks(memstore: Run, *arguments: str, **changed: str) -> dict[str, dict[str, Any]]:
    ended = memstore("doctor", "--json", *arguments, **changed)
    assert ended.stderr == ""
    found = {value["name"]: value for value in map(json.loads, ended.stdout.splitlines())}
    assert ended.returncode == any(value["verdict"] == "finding" for value in found.values())
    return found


@every_server
def test_the_doctor_says_what_it_could_not_check(memstore: Run, store: Memstore, server: Server) -> None:
    make_sessions(store)
    found = checks(memstore)
    assert {name for name, check in found.items() if check["verdict"] == "unchecked"} == {"persistence"}
    assert "+config|get" in found["persistence"]["advice"]
    found = checks(memstore, REDIS_URL=server.open_url)
    assert {check["verdict"] for check in found.values()} == {"fine", "finding"}
    assert re.match(r"(Redis|Valkey) \d+\.\d+\.\d+", found["version"]["seen"])
    assert found["persistence"]["verdict"] == "finding"  # these servers keep nothing on disk
    assert "appendonly yes" in found["persistence"]["advice"]


@every_server
def test_the_doctor_knows_the_settings_of_servers(memstore: Run, server: Server, admin: redis.Redis) -> None:
    before = {name: admin.config_get(name)[name] for name in ("save", "maxmemory", "maxmemory-policy")}

    def see(name: str, **settings: Any) -> tuple[str, str]:
        for setting, value in settings.items():
            admin.config_set(setting.replace("_", "-"), value)
        check = checks(memstore, REDIS_URL=server.open_url)[name]
        return check["verdict"], check["seen"]

    try:
        assert see("persistence", save="3600 1 300 100")[0] == "fine"
        assert "3600 1 300 100" in see("persistence")[1]
        assert "no maxmemory" in see("eviction", maxmemory_policy="allkeys-lru")[1]
        verdict, seen = see("eviction", maxmemory=10**9)
        assert (verdict, "allkeys-lru" in seen) == ("finding", True)
        assert see("eviction", maxmemory_policy="noeviction")[0] == "fine"
        verdict, seen = see("eviction", maxmemory=admin.info("memory")["used_memory"] + 100_000)
        assert (verdict, "% of maxmemory" in seen) == ("finding", True)
    finally:
        for setting, value in before.items():
            admin.config_set(setting, value)


def test_the_doctor_knows_an_append_only_file(memstore: Run, start_server: Callable[..., Server]) -> None:
    server = start_server("--appendonly", "yes")
    found = checks(memstore, REDIS_URL=server.open_url)
    assert "append-only file" in found["persistence"]["seen"]
    assert {check["verdict"] for check in found.values()} == {"fine"}


@every_server
def test_the_doctor_finds_what_went_wrong_with_sessions(memstore: Run, store: Memstore, admin: redis.Redis) -> None:
    make_sessions(store, 3)
    history = {name: store.history(name) for name in ("ttl", "siblings", "half", "entries", "results", "late", "types")}
    for each in history.values():
        each.add_user_message("hi")
    for key in history["ttl"].keys.siblings():
        admin.persist(key)
    admin.expire(history["siblings"].keys.turns, 50)
    admin.persist(history["half"].keys.messages)
    admin.delete(history["types"].keys.turns)
    admin.rpush(history["types"].keys.turns, "not a number")
    admin.rpush(history["entries"].keys.messages, "text")
    admin.rpush(history["results"].keys.messages, '{"type": "tool", "data": {"content": "", "tool_call_id": "1"}}')
    for _ in range(11):
        history["late"].add_messages([HumanMessage("on and on")])
    orphan = SessionKeys("conversation", "or:phan {x}")
    admin.rpush(orphan.messages, '{"type": "human", "data": {"content": "by other hands"}}')
    admin.expire(orphan.messages, 1000)
    admin.set("conversation:nonsense:{x}", "not ours")
    admin.set("conversation:{x}", "not ours")
    admin.set(b"conversation:turns:{\xff}", 1)
    admin.set("conversation:messages:plain", "not ours")
    before = everything(admin)
    found = {name: check["sessions"] for name, check in checks(memstore).items() if check["verdict"] == "finding"}
    assert found == {
        "ttl": ["ttl"],
        "siblings": ["half", "siblings"],
        "entries": ["entries"],
        "results": ["results"],
        "summaries": ["late"],
        "orphans": ["or:phan {x}"],
        "types": ["types"],
    }
    assert everything(admin) == before
    assert memstore("clear", "types", "--yes").returncode == 0
    assert memstore("clear", "or:phan {x}", "--yes").returncode == 0
    assert {"orphans", "types"} & {
        name for name, check in checks(memstore).items() if check["verdict"] == "finding"
    } == set()
    admin.rpush(orphan.messages, '{"type": "human", "data": {"content": "by other hands"}}')
    assert set(checks(memstore, "--match", "or*")["orphans"]["sessions"]) == {"or:phan {x}"}


def test_the_doctor_finds_what_was_lost(memstore: Run, store: Memstore) -> None:
    state = SessionDump((), total=3, lost=2, ttl_ms=10**8)
    store._backend.execute(Restore(SessionKeys("conversation", "s"), state, "x"))
    assert checks(memstore)["lost"]["sessions"] == ["s"]


# Moving in


def test_an_import_from_the_command_line(memstore: Run, store: Memstore, server: Server, admin: redis.Redis) -> None:
    entries = [json.dumps({"type": "human", "data": {"content": str(number)}}) for number in range(60)]
    admin.lpush("message_store:a", *entries)
    admin.lpush("old:b", *entries)
    admin.set("chat:c:1", "{}")
    url = server.open_url
    dry = memstore("import", "--from", "community", "--dry-run", REDIS_URL=url)
    assert (dry.returncode, "1 conversation would be imported, 60 messages" in dry.stdout) == (0, True)
    done = memstore("import", "--from", "community", url)  # a server of the source, the environment's as the target
    assert (done.returncode, "10 are older than the windows" in done.stdout) == (0, True)
    done = memstore("import", "--from", "community", "--prefix", "old:", "--max-messages", "0", REDIS_URL=url)
    assert done.stdout == "1 conversation imported, 60 messages\n"
    assert len(store.history("b").snapshot().messages) == 60
    done = memstore("import", "--from", "langchain-redis", REDIS_URL=url)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no JSON module" in done.stderr and done.stderr.count("\n") == 1


def test_an_import_that_is_killed_goes_on(memstore: Run, store: Memstore, tmp_path: Path, environment: Any) -> None:
    messages = [{"type": "human", "data": {"content": "x" * 1000}} for _ in range(50)]
    lines = [json.dumps({"session_id": str(number), "messages": messages}) for number in range(400)]
    (tmp_path / "file").write_text("\n".join(lines))
    process = subprocess.Popen([*COMMAND, "import", "file"], env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL)
    wait_until(lambda: sum(1 for _ in store.sessions()) > 5)
    process.kill()
    process.wait(PATIENCE)
    before = sum(1 for _ in store.sessions())
    assert before < 400
    done = memstore("import", "file", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["imported"], report["unchanged"]) == (0, 400 - before, before)
    assert all(info.total == info.messages == 50 for info in store.sessions())
