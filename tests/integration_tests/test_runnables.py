"""The tests of runnables with a memory, on a real Redis."""

from __future__ import annotations

from unit_tests import test_run_view, test_runnable, test_runnable_disturbed, test_runnable_graphs

for module in test_runnable, test_runnable_disturbed, test_runnable_graphs, test_run_view:
    for name, value in vars(module).items():
        if name.startswith("test_") or name == "factory":
            assert name not in globals(), f"{name} is there twice, and would be run once"
            globals()[name] = value
