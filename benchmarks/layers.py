"""What the optional layers of this package cost, or save: the fallback, and the near cache."""

from __future__ import annotations

from benchmarks.contenders import Clients, Ours
from benchmarks.histories import block
from benchmarks.messages import conversation
from benchmarks.rounds import Comparison

BARE, FALLBACK = "without", "with fallback"
NEAR = "with near cache"
WINDOW = 50


def fallback(clients: Clients, operation: str) -> Comparison:
    """Compare a store with the fallback, which is healthy, to one without."""
    stores = {
        BARE: clients.open(clients.url, fallback=False),
        FALLBACK: clients.open(clients.url, fallback=True),
    }
    blocks = {}
    for name, store in stores.items():
        contender = Ours(clients, f"fallback-{operation}-{name}", WINDOW, store)
        contender.fill(conversation(WINDOW))
        blocks[name] = block(contender, operation)
    return Comparison(blocks, weight=1.5)


def near_cache(clients: Clients, url: str, line: str, window: int, size: int) -> Comparison:
    """Compare a turn with the near cache to one without, over a line to the server.

    Args:
        clients: How to reach the server at once, to fill it.
        url: How to reach it over the line.
        line: What to call the line.
        window: How many messages.
        size: How many bytes each.
    """
    blocks = {}
    for name, wanted in ((BARE, False), (NEAR, True)):
        session_id = f"near-{line}-{window}-{size}-{wanted}"
        Ours(clients, session_id, window).fill(conversation(window, size))
        store = clients.open(url, near_cache=wanted)
        blocks[name] = block(Ours(clients, session_id, window, store), "turn", size)
    return Comparison(blocks, weight=0.5)
