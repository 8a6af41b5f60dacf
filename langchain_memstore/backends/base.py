"""What a backend is, and what a wrapper around one starts from."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

from typing_extensions import override

from langchain_memstore.models import Status
from langchain_memstore.ops.base import Op, R


class Backend(Protocol):
    """Where sessions are kept: one verb, in two variants."""

    @property
    @abstractmethod
    def status(self) -> Status:
        """How the backend does; looking does no I/O."""
        ...

    @abstractmethod
    def execute(self, op: Op[R]) -> R:
        """Execute an operation.

        Args:
            op: What to do.

        Returns:
            The operation's result.

        Raises:
            BackendError: The store refused, could not be reached, or is closed.
        """
        ...

    @abstractmethod
    async def aexecute(self, op: Op[R]) -> R:
        """Execute an operation; the async variant of `execute`."""
        ...

    @abstractmethod
    def close(self) -> None:
        """Let go of what the backend owns; closing twice is closing once."""
        ...

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of what the backend owns; the async variant of `close`."""
        ...


class BackendWrapper(Backend):
    """Hands everything to the backend that it holds; a wrapper overrides what it is for.

        class Counted(BackendWrapper):
            calls = 0

            @override
            def execute(self, op: Op[R]) -> R:
                self.calls += 1
                return super().execute(op)

            @override
            async def aexecute(self, op: Op[R]) -> R:
                self.calls += 1
                return await super().aexecute(op)

        store = Memstore(Counted(LocalBackend()))

    Args:
        backend: What does the operations.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._backend!r})"

    @property
    @override
    def status(self) -> Status:
        return self._backend.status

    @override
    def execute(self, op: Op[R]) -> R:
        return self._backend.execute(op)

    @override
    async def aexecute(self, op: Op[R]) -> R:
        return await self._backend.aexecute(op)

    @override
    def close(self) -> None:
        self._backend.close()

    @override
    async def aclose(self) -> None:
        await self._backend.aclose()
