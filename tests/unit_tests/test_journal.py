"""The journal in a file: it outlasts the process, whatever ends that, and is nobody else's to read."""

from __future__ import annotations

import gc
import os
import stat
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_memstore import BackendError, BackendUnavailable
from langchain_memstore.backends.local import LocalBackend
from langchain_memstore.backends.outage.file_journal import FileJournal
from langchain_memstore.backends.outage.journal import JOURNALED, read_op, write_op
from langchain_memstore.backends.outage.journal_file import MAGIC
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


def ops_of(journal: FileJournal) -> list[Op[Any]]:
    return [waiting.op for waiting in journal]


def sent(journal: FileJournal, now: int = 10**6) -> list[int | None]:
    """When each operation may have been sent, where it was not: now."""
    times = []
    for waiting in list(journal):
        journal.mark_sent(waiting, now)
        times.append(waiting.sent)
        journal.remove(waiting)
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
        journal.append(op, since=0)
    journal.remove(next(iter(journal)))
    journal.remove(next(iter(journal)))
    journal.close()
    again = opened(path)
    assert ops_of(again) == ops[2:]
    assert again.waits((KEYS,))
    for _ in range(3):
        again.remove(next(iter(again)))
    assert not again.waits((KEYS,))
    again.close()
    assert path.read_bytes() == MAGIC
    assert ops_of(opened(path)) == []


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
        journal.append(op, since=0)
        ends.append(path.stat().st_size)
    journal.close()
    whole = path.read_bytes()
    for end in range(ends[0], len(whole)):
        path.write_bytes(whole[:end])
        torn = opened(path)
        assert ops_of(torn) == ops[: sum(each <= end for each in ends)]
        torn.append(ops[2], since=0)
        torn.close()
        again = opened(path)
        assert ops_of(again)[-1] == ops[2]
        again.close()
    assert "never written whole" in caplog.text


def test_a_damaged_file_is_kept_for_its_owner(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ops = turns(3)
    journal = opened(path)
    for op in ops:
        journal.append(op, since=0)
        end = path.stat().st_size
    journal.close()
    whole = bytearray(path.read_bytes())
    whole[len(MAGIC) + (end - len(MAGIC)) // 2] ^= 1
    path.write_bytes(whole)
    journal = opened(path)
    assert ops_of(journal) == ops[:1]
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
    assert ops_of(journal) == [first]
    journal.close()


def test_two_processes_have_a_file_each_and_the_next_takes_both_over(path: Path) -> None:
    one, other = opened(path), opened(path)
    first, second = turns(2)
    one.append(first, since=0)
    other.append(second, since=0)
    one.close()
    other.close()
    third = opened(path)
    assert ops_of(third) == [first, second]
    assert path.with_name("journal.1").read_bytes() == MAGIC
    third.close()
    again = opened(path)
    assert ops_of(again) == [first, second]
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
        journal.append(op, since=0)
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
        journal.append(op, since=0)
    for waiting in list(journal):
        journal.remove(waiting)
        if journal.needs_sync():
            journal.sync()
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
    written.append(op, since=0)
    written.close()
    content = path.read_bytes()
    for word in (b"tenant", b"who-it-is", b"what was said", b"SetSummary"):
        assert word not in content
    rotated = journal(new, old)
    assert ops_of(rotated) == [op]
    rotated.close()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    assert ops_of(journal(old)) == []  # a record with a wrong checksum at the end is a torn one


@pytest.mark.parametrize(("keys", "says"), [((), "there are no encryption_keys"), ((b"n" * 32,), "not among")])
@pytest.mark.parametrize("name", ["journal", "journal.1"], ids=["of this process", "of another one"])
def test_what_the_keys_do_not_open_is_set_aside_until_they_do(
    path: Path, name: str, keys: tuple[bytes, ...], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A rotation that was rolled back, or a key dropped too early: Redis is well, and nobody is kept from it."""
    old, (op, later) = b"o" * 32, turns(2)
    written = FileJournal(str(path.with_name(name)), 10, KeyRing([old]).cipher("journal"))
    written.open()
    written.append(op, since=7)
    written.close()
    content = path.with_name(name).read_bytes()
    for _ in range(2):
        journal = FileJournal(str(path), 10, KeyRing(keys).cipher("journal") if keys else None)
        journal.open()
        assert ops_of(journal) == []
        assert path.with_name("journal.unread-1").read_bytes() == content
        assert caplog.text.count("journal.unread-1") == 1 and says in caplog.text
        caplog.clear()
        journal.append(later, since=8)
        journal.remove(next(iter(journal)))
        journal.close()
    again = FileJournal(str(path), 10, KeyRing([old]).cipher("journal"))
    again.open()
    assert [(waiting.op, waiting.since) for waiting in again] == [(op, 7)]
    assert not path.with_name("journal.unread-1").exists()
    again.close()


def test_when_an_operation_was_sent_outlasts_the_journal(path: Path) -> None:
    journal = opened(path)
    for number, op in enumerate(turns(60)):
        journal.append(op, since=0, sent=5 if number == 50 else None)
    for now in (7, 8):
        journal.mark_sent(next(iter(journal)), now)
        assert next(iter(journal)).sent == 7
    for _ in range(3):
        journal.remove(next(iter(journal)))
    journal.close()
    again = opened(path)
    assert [waiting.sent for waiting in again] == [7] * 13 + [None] * 34 + [5] + [None] * 9
    again.close()
    last = opened(path)
    assert sent(last) == [7] * 13 + [10**6] * 34 + [5] + [10**6] * 9
    last.close()
    assert path.read_bytes() == MAGIC


def test_when_an_operation_was_sent_is_taken_over(path: Path) -> None:
    other = FileJournal(f"{path}.1", 100)
    other.open()
    for op in turns(2):
        other.append(op, since=0, sent=3)
    other.close()
    journal = opened(path)
    assert sent(journal) == [3, 3]
    journal.close()


def write_as_version_01(path: Path, ops: list[RegisterTurn], done: int) -> None:
    """Write a journal as version 0.1 does, last changed at second 1000."""
    records = [b"+" + write_op(op) for op in ops] + [b"-"] * done
    framed = [struct.pack(">II", len(record), zlib.crc32(record)) + record for record in records]
    path.write_bytes(b"langchain-memstore journal 1\n" + b"".join(framed))
    os.utime(path, (1000, 1000))


def test_a_journal_of_version_01_is_read(path: Path) -> None:
    """It does not say what was sent: its first operation may have been."""
    ops = turns(4)
    write_as_version_01(path, ops, done=1)
    again = opened(path)
    assert ops_of(again) == ops[1:]
    assert {waiting.since for waiting in again} == {1_000_000}
    again.append(RegisterTurn(KEYS, None), since=0)
    again.close()
    last = opened(path)
    assert sent(last, 10**9) == [1_000_000, 10**9, 10**9, 10**9]
    last.close()
    assert path.read_bytes() == MAGIC


def test_a_journal_of_version_01_is_taken_over(path: Path) -> None:
    ops = turns(3)
    write_as_version_01(path.with_name("journal.1"), ops, done=1)
    journal = opened(path)
    assert ops_of(journal) == ops[1:]
    journal.close()
    assert ops_of(opened(path)) == ops[1:]


def test_what_waits_in_a_closed_journal_of_this_process_stays_under_way(path: Path) -> None:
    journal, (op,) = opened(path), turns(1)
    journal.append(op, since=0)
    op.finish()
    written = op.write_id
    del op
    journal.close()
    gc.collect()
    assert len(NUMBERING) == 1
    journal.open()
    gc.collect()
    assert len(NUMBERING) == 1 and [op.write_id for op in ops_of(journal)] == [written]
    journal.remove(next(iter(journal)))
    gc.collect()
    assert len(NUMBERING) == 0
    journal.close()
