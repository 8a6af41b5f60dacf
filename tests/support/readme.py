"""The README and the pages beside it, as the tests read them."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/architecture.md", "docs/migration.md")
README = (ROOT / "README.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    """A block of Python."""

    page: str
    line: int
    source: str
    needs_redis: bool

    def run(self, namespace: dict[str, object]) -> None:
        """Run the block, and check that it prints what the comments behind `print` say."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * self.line + self.source, self.page, "exec"), namespace)
        promised = re.findall(r"^ *print\(.*\)  # (.*)$", self.source, re.MULTILINE)
        assert not promised or printed.getvalue().splitlines() == promised, f"{self.page}, from line {self.line}"


def python_blocks(page: str = "README.md") -> list[Block]:
    """Return the blocks of Python of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start("source")), found["source"], bool(found["needs"]))
        for found in re.finditer(r"(?P<needs><!-- needs Redis -->\n)?```python\n(?P<source>.*?)```", text, re.DOTALL)
    ]


def table(heading: str, text: str = README) -> list[list[str]]:
    """Return the rows, as their cells, of every table whose first column has a heading."""
    found = re.findall(rf"^\| {heading} \|.*\n\|.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in "".join(found).splitlines()]
