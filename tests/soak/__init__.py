"""A soak: many processes call one store under random faults, and an audit checks what they were told.

Run it with `make soak`, or `make soak ARGS="--minutes 5 --seed 7"`. With `--rollback`, the server is taken back to
older snapshots instead. The modules:

    calls.py          each call is recorded as it begins and as it ends, so that the audit knows what callers were told
    conversations.py  appends, and their audit; values.py, limits.py, locks.py and near_cache.py likewise
    callers.py        the processes that live long; short_lived.py: those that append once or twice and end
    driver.py         the server, the processes and the faults that both soaks share
    faulty_lines.py   the soak of all operations; rollback.py: the one of snapshots and near caches

An audit never guesses. A call that raised `BackendUnavailable`, or whose process was killed, was done once or not at
all, and counts as either. So that such calls blur little, counters, limits and locks get new names every few seconds.
"""
