"""Import and export: the public path of `langchain_memstore.transfer.importers`."""

from langchain_memstore.transfer.importers import *  # noqa: F403
from langchain_memstore.transfer.importers import __all__ as __all__
