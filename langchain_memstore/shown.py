"""What shows itself in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_memstore.errors import MemstoreError

if TYPE_CHECKING:
    from langchain_memstore.display import Page


class Shown:
    """Shows itself as HTML in a notebook, and as text at the prompt of IPython. Looking starts no TTL anew."""

    def _page(self) -> Page:
        """Look at what is to be shown."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        from langchain_memstore import display

        return display.html(self._page_or_problem())

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        # What IPython asks for first: one look for both forms, and text where a terminal shows no HTML.
        from langchain_memstore import display

        page = self._page_or_problem()
        return {"text/plain": display.text(page), "text/html": display.html(page)}

    def _page_or_problem(self) -> Page:
        from langchain_memstore.display import Page

        try:
            return self._page()
        except MemstoreError as error:
            return Page(title=repr(self), problems=(str(error),))
