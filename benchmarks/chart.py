"""The picture of a run: how many times as long as this package the others take for a turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SCENES = (
    ("one conversation, sync", {"section": "histories", "operation": "turn", "variant": "sync", "messages": "50"}),
    ("one conversation, async", {"section": "histories", "operation": "turn", "variant": "async", "messages": "50"}),
    (
        "64 conversations at once",
        {"section": "histories", "operation": "turn", "variant": "64 tasks", "messages": "50"},
    ),
    ("through the LangChain wrapper, sync", {"section": "end to end", "variant": "sync"}),
    ("through the LangChain wrapper, async", {"section": "end to end", "variant": "async"}),
)
BARS = (
    ("langchain-memstore", ("memstore", "RunnableWithHistory"), "#0b6e4f"),
    ("raw redis-py, bytes only", ("floor A",), "#b8c0c8"),
    ("openai-agents RedisSession", ("openai-agents",), "#e3a857"),
    ("llama-index RedisChatStore", ("llama-index",), "#8a6fb0"),
    ("langchain-community", ("community", "old wrapper, community"), "#c8553d"),
)
"""Who has bars: what the legend says, what the results call it, and in which colour."""


def draw(saved: dict[str, Any], path: Path) -> None:
    """Draw saved results.

    Args:
        saved: What `results.json` holds.
        path: The PNG to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8.4, 6.0), dpi=120, facecolor="white", layout="constrained")
    at, ticks = 0.0, []
    for title, wanted in SCENES:
        row = next(each for each in saved["measured"] if wanted.items() <= each.items())
        ours, first = row["contenders"][row["base"]]["microseconds"], at
        for label, names, colour in BARS:
            name = next((name for name in names if name in row["contenders"]), None)
            if name is None:
                continue
            ratio = row["contenders"][name]["ratio"][1]
            axes.barh(at, ratio, 0.86, color=colour, label=label)
            text = f"{_time(ours)}" if name == row["base"] else f"{ratio:.1f} times"
            weight = "bold" if name == row["base"] else "normal"
            axes.text(ratio + 0.06, at, text, va="center", fontsize=9, color="#20242a", weight=weight)
            at += 1
        ticks.append(((first + at - 1) / 2, title))
        at += 0.9
    axes.set_yticks([each for each, _ in ticks], [title for _, title in ticks])
    axes.tick_params(axis="both", length=0, labelsize=9.5, labelcolor="#20242a")
    axes.invert_yaxis()
    axes.axvline(1, color="#0b6e4f", linewidth=0.8, linestyle=":")
    axes.set_xlim(0, axes.get_xlim()[1] * 1.08)
    axes.xaxis.set_visible(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title("A turn: read 50 messages, append 2. Less is better.", loc="left", fontsize=12, color="#20242a")
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    shown = [label for label, *_ in BARS if label in handles]
    figure.legend(
        [handles[label] for label in shown],
        shown,
        loc="outside upper center",
        ncols=3,
        frameon=False,
        fontsize=9,
        labelcolor="#20242a",
    )
    figure.supxlabel(_foot(saved), fontsize=7, color="#5b636d")
    figure.savefig(path, facecolor="white", metadata={"Software": None})
    plt.close(figure)


def _time(micros: float) -> str:
    return f"{micros:.0f} µs" if micros < 1_000 else f"{micros / 1_000:.2f} ms"


def _foot(saved: dict[str, Any]) -> str:
    return (
        f"{saved['date']}, {saved['processor']}, {saved['cores']} cores, Python {saved['python']}, "
        f"redis-server {saved['redis-server']} on loopback; make bench"
    )
