"""What notebooks show of this package's objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from langchain_memstore import display
from langchain_memstore.errors import MemstoreError
from langchain_memstore.models import Shown, Snapshot, notebook_forms

T = TypeVar("T", bound=Shown)


def shows(cls: type[T], page_of: Callable[[T], display.Page]) -> None:
    """Have the objects of a class show themselves as a page; where making it fails, the page says why.

    Args:
        cls: The class.
        page_of: Looks at an object.
    """

    def forms(shown: T) -> dict[str, str]:
        try:
            page = page_of(shown)
        except MemstoreError as error:
            page = display.Page(title=repr(shown), problems=(str(error),))
        return {"text/plain": display.text(page), "text/html": display.html(page)}

    notebook_forms.register(cls, forms)


shows(Snapshot, lambda snapshot: display.snapshot_page(snapshot))
