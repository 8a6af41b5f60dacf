"""The tests of agents with a memory, on a real Redis."""

from __future__ import annotations

from unit_tests import test_agents, test_agents_disturbed

pytestmark = test_agents.pytestmark

for module in test_agents, test_agents_disturbed:
    for name, value in vars(module).items():
        if name.startswith("test_"):
            assert name not in globals(), f"{name} is there twice, and would be run once"
            globals()[name] = value
