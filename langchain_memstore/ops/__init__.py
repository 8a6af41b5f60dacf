"""The operations: frozen values, each with its Redis meaning and its Python meaning side by side."""

from importlib import import_module
from pkgutil import iter_modules


def load_operations() -> None:
    """Import every module of operations, so that all of them are known by their names in a journal."""
    for module in iter_modules(__path__, f"{__name__}."):
        import_module(module.name)
