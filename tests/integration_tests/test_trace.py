"""How many files of the package a reader opens to follow a message."""

from __future__ import annotations

from benchmarks.trace import traces

MOST = {  # files, and changes from one file to another
    "an append": (13, 22),
    "a read": (13, 22),
    "an append that begins an outage": (24, 88),
}


def test_a_message_takes_few_files() -> None:
    for what, files in traces():
        most_files, most_changes = MOST[what]
        assert len(set(files)) <= most_files, f"{what}: {files}"
        assert len(files) - 1 <= most_changes, f"{what}: {files}"
