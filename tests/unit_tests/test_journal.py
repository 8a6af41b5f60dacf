"""The journal in a file: it outlasts the process, whatever ends that, and is nobody else's to read."""

from __future__ import annotations

import gc
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_memstore import BackendError, BackendUnavailable, DecryptError
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.backends.outage.file_journal import MAGIC, FileJournal
from langchain_memstore.backends.outage.journal import JOURNALED, read_op, write_op
from langchain_memstore.codec.encryption import KeyRing
from langchain_memstore.keys import SessionKeys
from langchain_memstore.ops.base import Op
from langchain_memstore.ops.kv import Expire, Set, Unlink
from langchain_memstore.ops.kv_scripts import Delete, Increment, UpdateRecord
from langchain_memstore.ops.reading import Read
from langchain_memstore.ops.session import Append, Clear, Pop, RegisterTurn, SetSummary, Touch
from langchain_memstore.ops.write_ids import NUMBERING
from langchain_memstore.window import Bounds
from support.unsteady import Unsteady, falling_back
from support.waiting import wait_until

KEYS = SessionKeys("conversation", "session")
READ = Read(KEYS, None, refresh=False)

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
keys = st.builds(SessionKeys, names, names)
ttls = st.none() | st.integers(1, 10**15)
prefixes = st.lists(st.binary(), max_size=3).map(tuple)
counts = st.none() | st.integers(1)
limits = st.builds(Bounds, counts, counts, prefixes, prefixes, st.booleans(), counts)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
OPS: dict[type[Op[Any]], st.SearchStrategy[Op[Any]]] = {
    Append: st.builds(Append, keys, st.lists(st.binary(), min_size=1).map(tuple), limits, ttls),
    Pop: st.builds(Pop, keys, st.integers(1, 10**6), prefixes, ttls),
    RegisterTurn: st.builds(RegisterTurn, keys, ttls),
    SetSummary: st.builds(SetSummary, keys, st.text(st.characters(exclude_categories=["Cs"])), ttls),
    Touch: st.builds(Touch, keys, ttls),
    Clear: st.builds(Clear, keys),
    Set: st.builds(Set, st.lists(st.tuples(names, st.binary()), max_size=3).map(tuple), ttls),
    Unlink: st.builds(Unlink, st.lists(names, max_size=3).map(tuple)),
    Expire: st.builds(Expire, st.tuples(names), ttls),
    Delete: st.builds(Delete, st.tuples(names, names)),
    Increment: st.builds(Increment, st.tuples(names, names), st.integers(-(2**63), 2**63 - 1), ttls),
    UpdateRecord: st.builds(UpdateRecord, st.tuples(names), st.binary(), ttls),
}


def turns(count: int) -> list[RegisterTurn]:
    return [RegisterTurn(KEYS, None) for _ in range(count)]


def opened(path: Path, most: int = 10_000) -> FileJournal:
    journal = FileJournal(str(path), most)
    journal.open()
    return journal


def sent(journal: FileJournal, now: int = 10**6) -> list[int]:
    """When each operation may have been sent, where it was not: now."""
    times = []
    while journal:
        times.append(journal.send(now))
        journal.done()
    return times


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_every_operation_that_is_journaled_can_be_written() -> None:
    assert set(OPS) == set(JOURNALED.values())
    assert all(cls.in_outage == "journal" for cls in JOURNALED.values())


@given(st.one_of(*OPS.values()))
def test_what_is_written_is_read_equal(op: Op[Any]) -> None:
    assert read_op(write_op(op)) == op


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"Bounds": [1, 1, [], []]}',
        b'{"Read": []}',
        b'{"Clear": []}',
        b'{"Clear": [{"Clear": []}]}',
        b'{"Clear": 1}',
        b'{"Clear": [{"SessionKeys": ["", ""]}]}',
        b'{"os.system": ["true"]}',
        b'{"__class__": [{"bytes": "="}]}',
        b'{"Append": [], "Clear": []}',
    ],
)
def test_nothing_but_an_operation_is_read(written: bytes) -> None:
    with pytest.raises(ValueError, match=r"not an operation|Expecting|must be|padded|unpack"):
        read_op(written)


def test_what_waits_outlasts_the_journal(path: Path) -> None:
    ops = turns(5)
    journal = opened(path)
    for op in ops:
        journal.append(op)
    journal.done()
    journal.done()
    journal.close()
    again = opened(path)
    assert list(again) == ops[2:]
    assert again.waits((KEYS,))
    for _ in range(3):
        again.done()
    assert not again.waits((KEYS,))
    again.close()
    assert path.read_bytes() == MAGIC
    assert list(opened(path)) == []


def test_only_its_owner_may_read_it(path: Path) -> None:
    path.touch(mode=0o644)
    journal = opened(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    journal.close()


def test_a_torn_tail_is_dropped_wherever_it_is_torn(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ops = turns(3)
    journal = opened(path)
    ends = []
    for op in ops:
        journal.append(op)
        ends.append(path.stat().st_size)
    journal.close()
    whole = path.read_bytes()
    for end in range(ends[0], len(whole)):
        path.write_bytes(whole[:end])
        torn = opened(path)
        assert list(torn) == ops[: sum(each <= end for each in ends)]
        torn.append(ops[2])
        torn.close()
        again = opened(path)
        assert list(again)[-1] == ops[2]
        again.close()
    assert "never written whole" in caplog.text


def test_a_damaged_file_is_kept_for_its_owner(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ops = turns(3)
    journal = opened(path)
    for op in ops:
        journal.append(op)
        end = path.stat().st_size
    journal.close()
    whole = bytearray(path.read_bytes())
    whole[len(MAGIC) + (end - len(MAGIC)) // 2] ^= 1
    path.write_bytes(whole)
    journal = opened(path)
    assert list(journal) == ops[:1]
    assert path.with_name("journal.damaged").read_bytes() == whole
    assert "is damaged at byte" in caplog.text
    journal.close()


@pytest.mark.parametrize("content", [b"a letter to a friend\n", MAGIC[:-1] + b"7\n"])
def test_somebody_elses_file_is_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(BackendError, match="not a journal"):
        opened(path)
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    backend = falling_back(LocalBackend(), lambda: FileJournal(str(tmp_path / "no" / "folder"), 10))
    with pytest.raises(BackendError, match=r"no.folder.*cannot be used"):
        backend.execute(READ)


def test_a_full_disk_is_told_and_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    primary = Unsteady(LocalBackend())
    backend = falling_back(primary, lambda: FileJournal(str(path), 10))
    primary.mode = "down"
    first, second = turns(2)
    backend.execute(first)
    size = path.stat().st_size
    write = os.write
    halves = iter([True, False])

    def short(file: int, data: bytes) -> int:
        if next(halves):
            return write(file, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.write", short)
        with pytest.raises(BackendUnavailable, match="No space left"):
            backend.execute(second)
    assert path.stat().st_size == size
    backend.close()
    journal = opened(path)
    assert list(journal) == [first]
    journal.close()


def test_two_processes_have_a_file_each_and_the_next_takes_both_over(path: Path) -> None:
    one, other = opened(path), opened(path)
    first, second = turns(2)
    one.append(first)
    other.append(second)
    one.close()
    other.close()
    third = opened(path)
    assert list(third) == [first, second]
    assert path.with_name("journal.1").read_bytes() == MAGIC
    third.close()
    again = opened(path)
    assert list(again) == [first, second]
    again.close()


def test_what_a_process_has_left_is_replayed_by_the_next(path: Path) -> None:
    primary = Unsteady(LocalBackend())
    backend = falling_back(primary, lambda: FileJournal(str(path), 100))
    primary.mode = "down"
    for op in turns(40):
        backend.execute(op)
    backend.close()
    assert primary.done == []
    primary.mode = "up"
    following = falling_back(primary, lambda: FileJournal(str(path), 100))
    assert following.execute(READ).turns == 40
    wait_until(lambda: not following.status.degraded)
    assert len(primary.done) >= 40
    following.close()


@pytest.mark.parametrize("reachable", [True, False])
def test_what_a_process_has_left_is_known_before_it_is_replayed(path: Path, reachable: bool) -> None:
    journal = opened(path)
    for op in turns(3):
        journal.append(op)
    journal.close()
    primary = Unsteady(LocalBackend())
    primary.mode = "up" if reachable else "down"
    backend = falling_back(primary, lambda: FileJournal(str(path), 100))
    assert backend.execute(RegisterTurn(KEYS, None)) == 4
    assert backend.status.degraded is not reachable or backend.status.pending == 0
    primary.mode = "up"
    backend.close()
    assert primary.backend.execute(READ).turns == 4


WRITE_UNTIL_KILLED = """
import sys
from langchain_memstore import Memstore
store = Memstore.from_url("redis://127.0.0.1:1/0", fallback=sys.argv[1])
history = store.history("session")
for number in range(1_000_000):
    history.register_turn()
    print(number + 1, flush=True)
"""


def test_a_killed_process_loses_nothing_that_it_was_told_was_done(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITE_UNTIL_KILLED, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.kill()
        told = 20 + len(process.stdout.read().splitlines())
    journal = opened(path)
    assert told <= len(journal) <= told + 1
    journal.close()


def test_marks_are_synced_before_the_store_forgets(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    journal = opened(path)
    for op in turns(100):
        journal.append(op)
    for _ in range(100):
        journal.done()
    assert len(synced) >= 100 // 16
    journal.close()


def test_with_keys_nothing_of_it_is_in_clear(path: Path) -> None:
    op = SetSummary(SessionKeys("tenant", "who-it-is"), "what was said", None)

    def journal(*keys: bytes) -> FileJournal:
        made = FileJournal(str(path), 10, KeyRing(keys).cipher("journal") if keys else None)
        made.open()
        return made

    old, new = b"o" * 32, b"n" * 32
    written = journal(old)
    written.append(op)
    written.close()
    content = path.read_bytes()
    for word in (b"tenant", b"who-it-is", b"what was said", b"SetSummary"):
        assert word not in content
    for keys, says in (((), "pass the encryption_keys"), ((new,), "not among encryption_keys")):
        with pytest.raises(DecryptError, match=says):
            journal(*keys)
        assert path.read_bytes() == content
    rotated = journal(new, old)
    assert list(rotated) == [op]
    rotated.close()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    assert list(journal(old)) == []  # a record with a wrong checksum at the end is a torn one


def test_when_an_operation_was_sent_outlasts_the_journal(path: Path) -> None:
    journal = opened(path)
    for number, op in enumerate(turns(60)):
        journal.append(op, sent=5 if number == 50 else None)
    assert journal.send(7) == journal.send(8) == 7
    for _ in range(3):
        journal.done()
    journal.close()
    again = opened(path)
    assert [again.send(9), again.send(10)] == [7, 7]
    again.close()
    last = opened(path)
    # in doubt, some more count as sent: the file says only now and then what was done
    assert sent(last) == [7] * 13 + [10**6] * 34 + [5] + [10**6] * 9
    last.close()
    assert path.read_bytes() == MAGIC


def test_when_an_operation_was_sent_is_taken_over(path: Path) -> None:
    other = FileJournal(f"{path}.1", 100)
    other.open()
    for op in turns(2):
        other.append(op, sent=3)
    other.close()
    journal = opened(path)
    assert sent(journal) == [3, 3]
    journal.close()


def test_the_first_operation_of_a_journal_that_does_not_say_may_have_been_sent(path: Path) -> None:
    journal = opened(path)
    for op in turns(3):
        journal.append(op)
    journal.close()
    path.write_bytes(path.read_bytes().replace(b"journal 2", b"journal 1"))
    os.utime(path, (1000, 1000))
    again = opened(path)
    assert sent(again, 10**9) == [1_000_000, 10**9, 10**9]
    again.close()
    assert path.read_bytes() == MAGIC


def test_what_waits_in_a_closed_journal_of_this_process_stays_under_way(path: Path) -> None:
    journal, (op,) = opened(path), turns(1)
    journal.append(op)
    op.finish()
    written = op.write_id
    del op
    journal.close()
    gc.collect()
    assert len(NUMBERING) == 1
    journal.open()
    gc.collect()
    assert len(NUMBERING) == 1 and [op.write_id for op in journal] == [written]
    journal.done()
    gc.collect()
    assert len(NUMBERING) == 0
    journal.close()
