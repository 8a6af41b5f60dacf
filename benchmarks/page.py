"""The parts of README.md that a run writes."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parent / "README.md"


def write(part: str, text: str) -> None:
    """Replace a part of the page.

    Args:
        part: Its name; the part stands between `<!-- NAME -->` and `<!-- end of NAME -->`.
        text: What it is to say.
    """
    begin, end = f"<!-- {part} -->", f"<!-- end of {part} -->"
    before, _, rest = PAGE.read_text().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{PAGE} has no part between {begin} and {end}")
    PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
