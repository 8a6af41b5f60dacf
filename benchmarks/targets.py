"""What the ratios have to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks import codecs, end_to_end, growth, layers
from benchmarks.messages import LARGE
from benchmarks.rounds import Measured, Spread
from benchmarks.server_cost import ServerCost
from benchmarks.suite import LINE, LOOPBACK, Key, history, near


@dataclass(frozen=True)
class Target:
    """What a ratio has to be: at most `bound`, or at least."""

    what: str
    ratio: Spread
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.ratio.median >= self.bound if self.at_least else self.ratio.median <= self.bound

    def row(self) -> list[str]:
        sign = ">=" if self.at_least else "<="
        return [self.what, f"{sign} {self.bound:.2f}", str(self.ratio), "yes" if self.met else "NO"]

    def json(self) -> dict[str, Any]:
        bound = {"at_least" if self.at_least else "at_most": self.bound}
        return {"what": self.what, **bound, "ratio": vars(self.ratio), "met": self.met}


def targets(found: Mapping[Key, Measured], costs: Mapping[str, ServerCost]) -> list[Target]:
    """Compare what was found to what has to be."""

    def ratio(key: Key, one: str, other: str) -> Spread:
        return found[key].ratio(one, other)

    def to_floor(operation: str, variant: str, window: int, floor: str, most: float) -> Target:
        what = {"append": "append of 2", "read": "read", "turn": "a turn"}[operation]
        spread = ratio(history(operation, variant, window), "memstore", floor)
        return Target(f"{what} at {window:,}, {variant}, to {floor}", spread, most)

    memory = costs["memstore"].message / costs["community"].message
    first, last = growth.name(growth.LENGTHS[0]), growth.name(growth.LENGTHS[-1])
    return [
        to_floor("append", "sync", 50, "floor A", 1.0),
        to_floor("append", "async", 50, "floor A", 1.0),
        *[to_floor("read", variant, n, "floor B", 1.1) for variant in ("sync", "async") for n in (50, 1_000)],
        to_floor("turn", "sync", 50, "floor A", 1.4),
        Target(
            "a turn at 50, sync, community's to ours",
            ratio(history("turn", "sync", 50), "community", "memstore"),
            3.3,
            at_least=True,
        ),
        to_floor("turn", "async", 15, "floor A", 1.3),
        to_floor("turn", "async", 50, "floor A", 1.4),
        to_floor("turn", "64 tasks", 15, "floor A", 0.6),
        to_floor("turn", "64 tasks", 50, "floor A", 0.9),
        *[
            Target(
                f"end to end at 50, {variant}, the old wrapper with community{how} to ours",
                ratio(("end to end", variant), old, end_to_end.NEW),
                5.0,
                at_least=True,
            )
            for variant in ("sync", "async")
            for old, how in ((end_to_end.OLD_AS_DOCUMENTED, ", as documented,"), (end_to_end.OLD, " kept connected"))
        ],
        *[
            Target(
                f"a turn at 1,000 of 4 KB, {line}, without the near cache to with it",
                ratio(near(line, 1_000, LARGE), layers.BARE, layers.NEAR),
                4.0,
                at_least=True,
            )
            for line in (LOOPBACK, LINE)
        ],
        *[
            Target(
                f"{operation} {last} to {first} messages",
                ratio(("growth", "memstore", operation), last, first),
                1.05,
            )
            for operation in ("append", "turn")
        ],
        Target("memory a message at 50, to community's", Spread(memory, memory, memory), 1.1),
        *[
            Target(
                f"{operation}, with the fallback, healthy, to without",
                ratio(("fallback", operation), layers.FALLBACK, layers.BARE),
                1.03,
            )
            for operation in ("append", "read")
        ],
        Target("encode, to plain LangChain", ratio(("codec", "encode"), "memstore", codecs.PLAIN), 0.35),
        Target("decode, to plain LangChain", ratio(("codec", "decode"), "memstore", codecs.PLAIN), 0.25),
    ]
