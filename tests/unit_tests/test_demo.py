import re
import secrets
import subprocess
import sys

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_memstore import Memstore, demo


@pytest.fixture
def url() -> str:
    return f"memory://{secrets.token_hex(4)}"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "langchain_memstore.demo", *arguments], capture_output=True, text=True, timeout=30
    )


def windows(printed: str) -> list[list[str]]:
    """The windows that were printed, each as the roles of its messages and what they say."""
    found: list[list[str]] = [[]]
    for line in printed.splitlines():
        if message := re.match(r"  \| \d  (.*)", line):
            found[-1].append(message[1])
        elif line.startswith("  | window"):
            found.append([])
    return found[:-1]


def test_prints_every_turn_with_its_window_turns_total_and_ttl(capsys: pytest.CaptureFixture[str], url: str) -> None:
    demo.main(["--url", url, "--session", "s"])
    printed = capsys.readouterr().out
    kept = re.findall(r"\| window (\d) of 8(?:, (\d) pushed out)?; turns (\d+); total (\d+); TTL (\d+\.\d+) s", printed)
    assert [tuple(map(int, (window, left or 0, turns, total))) for window, left, turns, total, _ in kept] == [
        (2, 0, 1, 2),
        (7, 0, 2, 7),
        (8, 3, 3, 11),
        (7, 3, 4, 13),
        (8, 1, 5, 15),
        (7, 3, 6, 17),
    ]
    assert all(590 < float(ttl) <= 600 for *_, ttl in kept)
    assert "It is 274 km as the crow flies, and you leave on a Saturday." in printed
    assert "274 and 421 km, which makes 695 km in all." in printed
    assert re.search(r"^  s +7 +6 +17 +yes", printed, re.MULTILINE)
    assert re.search(r"^  s-other +2 +1 +2 +no", printed, re.MULTILINE)


def test_no_window_begins_with_a_tool_result(capsys: pytest.CaptureFixture[str], url: str) -> None:
    demo.main(["--url", url])
    printed = capsys.readouterr().out
    assert len(windows(printed)) == 6
    assert not [window for window in windows(printed) if window[0].startswith("tool")]
    assert printed.count("would begin with a tool result") == 2


def test_the_model_knows_only_its_prompt(capsys: pytest.CaptureFixture[str], url: str) -> None:
    demo.main(["--url", url])
    answers = re.findall(r"human   What is my name\?\n  ai      (.*)", capsys.readouterr().out)
    assert answers[0].startswith("I cannot tell")  # the name has left the window
    assert answers[1] == "You are Ada."  # the summary says it
    assert answers[2].startswith("I cannot tell")  # another session


def test_stores_messages_shaped_as_providers_make_them(url: str) -> None:
    demo.main(["--url", url, "--session", "s"])
    window = Memstore.from_url(url).history("s").snapshot().messages
    streamed = next(message for message in window if "695 km" in message.text)
    assert type(streamed) is AIMessage
    assert streamed.id and streamed.usage_metadata and streamed.response_metadata["finish_reason"] == "stop"
    answered = window[-1]
    assert answered.response_metadata["id"].startswith("chatcmpl-")
    assert answered.response_metadata["token_usage"]["total_tokens"] > 0


def test_calls_two_tools_at_once() -> None:
    said = demo.run_agent([HumanMessage("To Porto. How far is that, and on which day of the week do I leave?")])
    assert [type(message) for message in said] == [AIMessage, ToolMessage, ToolMessage, AIMessage]
    assert [call["id"] for call in said[0].tool_calls] == [result.tool_call_id for result in said[1:3]]


def test_a_session_that_exists_goes_on(capsys: pytest.CaptureFixture[str], url: str) -> None:
    demo.main(["--url", url, "--session", "s"])
    assert "goes on" not in capsys.readouterr().out
    demo.main(["--url", url, "--session", "s"])
    printed = capsys.readouterr().out
    assert "goes on: 17 messages were appended" in printed
    assert "turns 12; total 34;" in printed


def test_is_plain_text_of_100_columns(capsys: pytest.CaptureFixture[str], url: str) -> None:
    demo.main(["--url", url])
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert max(map(len, printed.splitlines())) <= 100


def test_help_teaches() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "--url redis://localhost:6379/0" in done.stdout
    assert "no API key" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--url", "redis://user:hunter2@127.0.0.1:1/0"], "127.0.0.1:1"),
        (["--url", "http://user:hunter2@localhost"], "redis://"),
        (["--url", "redis://user:hunter2@localhost:port/0"], "cannot be read"),
        (["--url", "localhost"], "redis://"),
        (["--session", ""], "session_id"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert "hunter2" not in done.stderr


def test_who_stops_reading_gets_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "langchain_memstore.demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stderr
    with process.stdout, process.stderr:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.wait() == 0
