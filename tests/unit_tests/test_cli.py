"""The `memstore` command on stores inside the process, called as its entry point calls it."""

from __future__ import annotations

import io
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage, message_to_dict

from langchain_memstore import Memstore, MemstoreSettings, __version__
from langchain_memstore.cli import main
from langchain_memstore.cli.app import masked
from langchain_memstore.integrations.importers import export_conversations
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.transfer import Restore, SessionDump
from support.conversations import converse

COMMANDS = ("sessions", "show", "search", "stats", "doctor", "export", "import", "clear", "worker", "demo")
TALK = converse([[1, 0], [2, 1, 0], [0]])


class Answer(NamedTuple):
    """What a command has answered."""

    code: int
    out: str
    err: str

    @property
    def values(self) -> list[dict]:
        """The objects that it printed as JSON, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Answer]


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.chdir(tmp_path)
    for name in MemstoreSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return f"memory://{secrets.token_hex(4)}"


@pytest.fixture
def store(url: str) -> Memstore:
    return Memstore.from_url(url, max_messages=3, summarize="manual")


@pytest.fixture
def memstore(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command on the store of the test."""

    def run(*arguments: str, stdin: bytes = b"", where: bool = True) -> Answer:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *(("--url", url) if where else ())])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Answer(ended.value.code, out, err)

    return run


# As a whole


def test_help_lists_the_commands_and_teaches(memstore: Run) -> None:
    for arguments in ((), ("--help",)):
        answer = memstore(*arguments, where=False)
        assert answer.code == 0
        for command in COMMANDS:
            assert re.search(rf"^  {command} ", answer.out, re.MULTILINE)
        assert "memstore doctor" in answer.out and "Exit codes" in answer.out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_examples(memstore: Run, command: str) -> None:
    answer = memstore(command, "--help", where=False)
    assert answer.code == 0
    assert re.search(rf"^  Examples:\n    memstore {command}\b", answer.out, re.MULTILINE)
    assert "--url" in answer.out
    if command not in ("export", "clear", "demo"):  # which print no data, or JSON anyway
        assert "--json" in answer.out


def test_version(memstore: Run) -> None:
    assert memstore("--version", where=False) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "No such command 'nope'"),
        (["sessions", "--nope"], "No such option: --nope"),
        (["show"], "Missing argument 'ID'"),
        (["sessions", "--limit", "0"], "--limit"),
        (["sessions", "--match", ""], "match must be a non-empty string"),
        (["show", ""], "session_id must be a non-empty string"),
        (["search", ""], "text must be a non-empty string"),
        (["search", "x", "--type", "robot"], "types must be of human"),
        (["import"], "needs a file"),
        (["import", "nowhere.jsonl"], "No such file"),
        (["import", "redis://localhost"], "pass --from"),
        (["import", "file", "--from", "community"], "pass its URL"),
        (["import", "file", "--prefix", "x"], "--prefix is for servers"),
        (["import", "file", "--from", "nope"], "'nope' is not one of 'jsonl', 'community', 'langchain-redis'"),
        (["export", "nowhere/file"], "there is no directory nowhere"),
        (["doctor", "--ignore", "nope"], "there is no check nope"),
        (["worker", "--summarizer", "nope"], "MODULE:NAME"),
        (["worker", "--summarizer", "nope:x"], "No module named 'nope'"),
        (["worker", "--summarizer", "json:nope.x"], "cannot be loaded: AttributeError"),
        (["worker", "--summarizer", "json:__name__"], "summarizer must be a chat model"),
        (["worker", "--summarizer", "json:dumps"], "not one inside its own process"),
        (["sessions", "--key-prefix", ""], "key_prefix must be a non-empty string"),
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_2(memstore: Run, arguments: list[str], says: str) -> None:
    answer = memstore(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("memstore: ") and answer.err.count("\n") == 1
    assert says in answer.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["sessions", "--url", "redis://me:hunter2@127.0.0.1:1/0"],
        ["sessions", "--url", "redis://me:hunter2@x@127.0.0.1:1/0"],
        ["sessions", "--url", "redis://127.0.0.1:1/0?password=hunter2"],
        ["sessions", "--url", "redis://me:hunter2@host:port/0"],
        ["sessions", "--url", "http://me:hunter2@host"],
        ["sessions", "--url", "redis://me:hunter2@host/0?nope=1"],
        ["sessions", "redis://me:hunter2@host/0"],
        ["redis://me:hun ter2@host/0"],
        ["--uri=redis://me:hunter2@host/0"],
        ["import", "--from", "redis://me:hunter2@host/0"],
        ["import", "redis://me:hunter2@host/0"],
        ["import", "redis://me:hunter2@127.0.0.1:1/0", "--from", "community", "--url", "memory://"],
        ["export", "redis://me:hunter2@host/0", "--url", "memory://"],
    ],
)
def test_no_error_shows_a_password(memstore: Run, arguments: list[str]) -> None:
    answer = memstore(*arguments, where=False)
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "hunter2" not in answer.err and "ter2" not in answer.err


def test_masking_takes_rather_too_much() -> None:
    assert masked("at redis://a:b@c@host:1/0") == "at redis://***@host:1/0"
    assert masked("at redis://h?ssl_password=x&password=y&db=1") == "at redis://h?ssl_password=***&password=***&db=1"
    assert masked("plain text, nobody@home") == "plain text, nobody@home"


def test_without_a_store_it_asks_which(memstore: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = memstore("sessions", where=False)
    assert answer.code == 2
    assert "which store?" in answer.err and "REDIS_URL" in answer.err
    monkeypatch.setenv("REDIS_PORT", "many")
    assert "REDIS_PORT" in memstore("sessions", where=False).err
    monkeypatch.delenv("REDIS_PORT")
    monkeypatch.setenv("REDIS_URL", "redis://me:hunter2@127.0.0.1:1/0")
    answer = memstore("sessions", where=False)
    assert (answer.code, "cannot be reached" in answer.err) == (2, True)


def test_the_environment_says_how_the_store_is_kept(
    memstore: Run, store: Memstore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Memstore.from_url(url, key_prefix="theirs").history("t").add_user_message("hi")
    store.history("mine").add_user_message("hi")
    assert [value["session_id"] for value in memstore("sessions", "--json").values] == ["mine"]
    monkeypatch.setenv("MEMSTORE_KEY_PREFIX", "theirs")
    assert [value["session_id"] for value in memstore("sessions", "--json").values] == ["t"]
    assert [v["session_id"] for v in memstore("sessions", "--json", "--key-prefix", "conversation").values] == ["mine"]


def test_without_the_extra_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['{gone}'] = None\nimport langchain_memstore.cli as cli\ncli.main(['sessions'])"
    for gone in ("typer", "rich"):
        ended = subprocess.run(
            [sys.executable, "-c", program.format(gone=gone)], capture_output=True, text=True, timeout=60
        )
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == "memstore: the command needs an extra: pip install 'langchain-memstore[cli]'\n"


# Looking


def make_sessions(store: Memstore) -> None:
    store.history("user-7/trip").add_messages(TALK)
    store.history("user-7/trip").set_summary("About a trip.")
    store.history("user-8", ttl=None).add_messages([HumanMessage("Grüße"), AIMessage("hello [bold]you[/bold]")])


def test_sessions(memstore: Run, store: Memstore) -> None:
    make_sessions(store)
    answer = memstore("sessions")
    header, *rows = [line.split() for line in answer.out.splitlines()]
    assert header == ["SESSION", "WINDOW", "WAITING", "TURNS", "TOTAL", "SUMMARY", "EXPIRES", "IN", "LAST", "WRITTEN"]
    assert sorted(row[:7] for row in rows) == [
        ["user-7/trip", "3", str(len(TALK) - 3), "3", str(len(TALK)), "yes", "24"],
        ["user-8", "2", "0", "1", "2", "no", "never"],
    ]
    values = {value["session_id"]: value for value in memstore("sessions", "--json").values}
    assert values["user-8"]["ttl"] is None and values["user-7/trip"]["evicted"] == len(TALK) - 3
    assert [value["session_id"] for value in memstore("sessions", "--json", "--match", "*7*").values] == ["user-7/trip"]
    answer = memstore("sessions", "--limit", "1")
    assert len(answer.out.splitlines()) == 2
    assert "1 of 2" in answer.err


def test_no_sessions(memstore: Run) -> None:
    answer = memstore("sessions")
    assert (answer.code, answer.out.split()[0], len(answer.out.splitlines())) == (0, "SESSION", 1)
    assert memstore("sessions", "--json") == (0, "", "")


def test_show(memstore: Run, store: Memstore) -> None:
    calls = [{"name": "distance", "args": {"to": "Porto"}, "id": "call_1"}]
    said: list[BaseMessage] = [
        HumanMessage("How far\nis it? [red]x[/red]"),
        AIMessage("", tool_calls=calls),
        ToolMessage("274 km", tool_call_id="call_1", name="distance"),
        AIMessage([{"type": "text", "text": "274 km."}, {"type": "image_url", "image_url": {"url": "data:"}}]),
        HumanMessage("Thanks."),
        AIMessage("Goodbye."),
    ]
    store.history("s").add_messages(said)
    store.history("s").set_summary("About Porto.")
    answer = memstore("show", "s")
    assert answer.code == 0
    shown = answer.out.splitlines()
    assert shown[0] == "s"
    assert "3 waiting to be summarised" in shown[1] and "6 in all; 2 turns; expires in 24 h" in shown[1]
    assert shown[3:] == [
        "",
        "Summary",
        "About Porto.",
        "",
        "Waiting to be summarised",
        "Human: How far",
        "is it? [red]x[/red]",
        'Assistant calls distance (call_1): {"to": "Porto"}',
        "Result of distance (call_1): 274 km",
        "",
        "Window",
        "Assistant: 274 km. [image_url]",
        "Human: Thanks.",
        "Assistant: Goodbye.",
    ]
    (value,) = memstore("show", "s", "--json").values
    assert value == json.loads(next(export_conversations(store, "s"))) | {"ttl": value["ttl"]}


def test_looking_refreshes_no_ttl(memstore: Run, store: Memstore) -> None:
    make_sessions(store)
    store.history("user-7/trip", ttl=600).touch()
    for arguments in (["show", "user-7/trip"], ["sessions"], ["search", "human"], ["stats"], ["doctor"], ["export"]):
        memstore(*arguments)
    ttl = store.history("user-7/trip", refresh_ttl_on_read=False).snapshot().ttl
    assert ttl is not None and ttl <= 600


def test_what_messages_hold_does_not_command_the_terminal(memstore: Run, store: Memstore) -> None:
    store.history("a\x1b[2Jb").add_messages([HumanMessage("\x1b]0;title\x07\x9b31m\r\x7fred\ttab")])
    for arguments in (["show", "a\x1b[2Jb"], ["sessions"], ["search", "red"], ["doctor"]):
        out = memstore(*arguments).out
        assert not set(re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", out)), arguments
    assert "\\x1b]0;title\\x07\\x9b31m\\x0d\\x7fred" in memstore("show", "a\x1b[2Jb").out


def test_show_tells_what_cannot_be_read(memstore: Run, store: Memstore) -> None:
    store._backend.execute(Restore(SessionKeys("conversation", "s"), SessionDump((b"text",), total=1), "x"))
    assert "[entry 0 cannot be read: not a message" in memstore("show", "s").out


def test_show_of_no_session_is_1(memstore: Run) -> None:
    assert memstore("show", "nobody") == (1, "", "memstore: there is no session 'nobody'\n")
    assert memstore("show", "nobody", "--json") == (1, "", "memstore: there is no session 'nobody'\n")


def test_search(memstore: Run, store: Memstore) -> None:
    make_sessions(store)
    assert memstore("search", "GRÜSSE").out == "user-8  Human: Grüße\n"
    assert memstore("search", "GRÜSSE", "--case-sensitive") == (1, "", "")
    assert memstore("search", "human", "--match", "user-7*", "--limit", "2").out.count("\n") == 2
    assert memstore("search", "l", "--type", "ai", "--match", "user-8").out.count("\n") == 1
    (value,) = memstore("search", "hello", "--json").values
    assert value == {"session_id": "user-8", "message": message_to_dict(AIMessage("hello [bold]you[/bold]"))}
    assert memstore("search", "nowhere", "--json") == (1, "", "")


def test_stats(memstore: Run, store: Memstore) -> None:
    make_sessions(store)
    (value,) = memstore("stats", "--json").values
    assert value.pop("oldest") <= value.pop("last_written")
    assert value == {
        "sessions": 2,
        "messages": 5,
        "waiting": len(TALK) - 3,
        "turns": 4,
        "total": len(TALK) + 2,
        "summaries": 1,
        "without_ttl": 1,
        "window_median": 3,
        "window_largest": 3,
    }
    out = memstore("stats").out
    assert re.search(r"^sessions that do not expire +1$", out, re.MULTILINE)
    assert memstore("stats", "--match", "nobody").code == 0


# Moving


def test_out_and_in_again(memstore: Run, store: Memstore, tmp_path: Path) -> None:
    make_sessions(store)
    exported = memstore("export")
    assert (exported.code, exported.err, len(exported.values)) == (0, "", 2)
    answer = memstore("export", "backup.jsonl")
    assert (answer.code, answer.out, answer.err) == (0, "", "memstore: exported 2 conversations to backup.jsonl\n")
    assert [path.name for path in tmp_path.iterdir()] == ["backup.jsonl"]
    for arguments, stdin in ((["backup.jsonl"], b""), (["-"], exported.out.encode())):
        answer = memstore("import", *arguments, "--key-prefix", "copy", stdin=stdin)
        assert answer.code == 0
    assert "2 imported before, and left as they are" in answer.out
    copied = memstore("export", "--key-prefix", "copy").values
    assert [_but_ttl(value) for value in copied] == [_but_ttl(value) for value in exported.values]


def _but_ttl(value: dict) -> dict:
    return {name: each for name, each in value.items() if name != "ttl"}


def test_export_overwrites_only_when_forced(memstore: Run, store: Memstore, tmp_path: Path) -> None:
    make_sessions(store)
    (tmp_path / "file").write_text("mine")
    answer = memstore("export", "file")
    assert answer.code == 2 and "pass --force" in answer.err
    assert (tmp_path / "file").read_text() == "mine"
    assert memstore("export", "file", "--force", "--match", "user-8").code == 0
    assert (tmp_path / "file").read_text().count("\n") == 1


def test_import_tells_what_it_did_and_did_not(memstore: Run, store: Memstore, tmp_path: Path) -> None:
    messages = [message_to_dict(message) for message in TALK]
    lines = [{"session_id": name, "messages": messages} for name in ("new", "kept")]
    lines.append({"session_id": "broken", "messages": [*messages, "?"]})
    (tmp_path / "file").write_text("\n".join(map(json.dumps, lines)))
    store.history("kept").add_user_message("mine")
    dry = memstore("import", "file", "--dry-run", "--max-messages", "3")
    assert f"1 conversation would be imported, {len(TALK)} messages" in dry.out
    assert len(list(store.sessions())) == 1
    answer = memstore("import", "file", "--max-messages", "3")
    assert answer.code == dry.code == 1
    assert answer.out.splitlines() == [
        f"file, line 3, messages[{len(TALK)}]: not a message: IndexError",
        "kept: exists, and was left as it is",
        f"1 conversation imported, {len(TALK)} messages, of which {len(TALK) - 3} are older than the windows and wait "
        "to be summarised",
        "1 left alone, as such sessions exist; --force replaces them",
        "1 left out, as not all of them can be read; --skip-corrupt imports the rest of them",
    ]
    (value,) = memstore("import", "file", "--json", "--force", "--skip-corrupt", "--max-messages", "0").values
    assert value["problems"] == [
        {"place": f"file, line 3, messages[{len(TALK)}]", "cause": "not a message: IndexError"}
    ]
    assert (value["imported"], value["replaced"], value["waiting"], value["complete"]) == (3, 2, 0, False)


# Keeping


def test_clear_asks_or_takes_yes(memstore: Run, store: Memstore) -> None:
    make_sessions(store)
    answer = memstore("clear", "user-8")
    assert (answer.code, "pass --yes" in answer.err) == (2, True)
    assert memstore("clear", "user-8", "--yes") == (0, "", "")
    assert [info.session_id for info in store.sessions()] == ["user-7/trip"]
    assert memstore("clear", "user-8", "--yes") == (1, "", "memstore: there is no session 'user-8'\n")


def test_demo(memstore: Run, store: Memstore) -> None:
    answer = memstore("demo", "--session", "d")
    assert answer.code == 0
    assert "Turn 6" in answer.out
    assert store.history("d").snapshot().total == 17


# The doctor


def test_doctor_finds_nothing_in_a_store_that_is_well(memstore: Run, store: Memstore) -> None:
    store.history("s").add_messages(TALK[-3:])
    answer = memstore("doctor")
    assert answer.code == 0
    assert "there is no server" in answer.out and "none of 1 sessions" in answer.out
    assert {value["verdict"] for value in memstore("doctor", "--json").values} == {"fine"}


@pytest.mark.parametrize(
    ("state", "name"),
    [
        (SessionDump((b"text",), total=1, ttl_ms=9**9), "entries"),
        (SessionDump((), (b"text",), total=1, ttl_ms=9**9), "entries"),
        (SessionDump((b'{"type":"tool","data":{"content":"","tool_call_id":"1"}}',), total=1, ttl_ms=9**9), "results"),
        (SessionDump((), total=3, lost=2, ttl_ms=9**9), "lost"),
        (SessionDump((), (b'{"type":"human","data":{"content":""}}',), turns=12, covered=2, ttl_ms=9**9), "summaries"),
        (SessionDump((), total=1), "ttl"),
    ],
)
def test_doctor_finds_what_is_wrong_with_a_session(
    memstore: Run, store: Memstore, state: SessionDump, name: str
) -> None:
    for number in range(12):
        store._backend.execute(Restore(SessionKeys("conversation", f"bad-{number:02}"), state, "x"))
    store.history("good").add_user_message("hi")
    answer = memstore("doctor")
    assert answer.code == 1
    assert re.search(rf"^LOOK +{name} +12 of 13 sessions", answer.out, re.MULTILINE)
    assert "-> " in answer.out and "bad-09" in answer.out and "and 2 more" in answer.out
    findings = [value for value in memstore("doctor", "--json").values if value["verdict"] == "finding"]
    assert [value["name"] for value in findings] == [name]
    assert findings[0]["sessions"] == [f"bad-{number:02}" for number in range(12)]
    assert memstore("doctor", "--ignore", name).code == 0
    assert memstore("doctor", "--match", "good").code == 0


def test_commands_on_encrypted_sessions(memstore: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "A" * 43 + "="
    Memstore.from_url(url, encryption_keys=[key]).history("s").add_user_message("hi")
    for arguments in (["show", "s"], ["search", "hi"], ["export"]):
        answer = memstore(*arguments)
        assert (answer.code, answer.out) == (2, "")
        assert "pass encryption_keys=" in answer.err
    assert re.search("^LOOK +encryption", memstore("doctor").out, re.MULTILINE)
    monkeypatch.setenv("MEMSTORE_ENCRYPTION_KEYS", key)
    assert memstore("show", "s").out.endswith("\nHuman: hi\n")
    assert memstore("search", "hi").code == 0
    assert memstore("doctor").code == 0
    monkeypatch.delenv("MEMSTORE_ENCRYPTION_KEYS")
    assert memstore("clear", "s", "--yes").code == 0


def test_doctor_lets_pass_what_providers_accept(memstore: Run, store: Memstore) -> None:
    legacy = AIMessage("", additional_kwargs={"function_call": {"name": "f", "arguments": "{}"}})
    store.history("s", max_messages=None).add_messages([*TALK, legacy])
    for state in (
        SessionDump((), (b'{"type":"human","data":{"content":""}}',), turns=11, covered=2, ttl_ms=9**9),
        SessionDump((), total=1, ttl_ms=9**9),
    ):
        store._backend.execute(Restore(SessionKeys("conversation", "t"), state, "x", replace=True))
        assert memstore("doctor").code == 0
