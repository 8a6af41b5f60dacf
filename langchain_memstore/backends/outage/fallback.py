"""The backend that goes on inside the process while the store cannot be reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typing_extensions import override

from langchain_memstore.backends.base import Backend, BackendWrapper
from langchain_memstore.backends.outage.controller import Admission, OutageController, State
from langchain_memstore.backends.outage.journal import Sync
from langchain_memstore.backends.outage.replay import PAUSE
from langchain_memstore.backends.steps import ExecuteOp, Steps, arun_steps, run_steps
from langchain_memstore.errors import BackendClosed, BackendUnavailable
from langchain_memstore.models import Status
from langchain_memstore.ops.base import Op, R

MOST_WAIT = 0.5  # seconds that an operation waits, at the most, for what is replayed before it


class FallbackBackend(BackendWrapper):
    """Executes operations in a store, and while that cannot be reached, inside the process.

    In an outage an operation is served from what the process knows, and journaled where it writes. When the store is
    back the journal is replayed in order: each operation has an id, so that those that the store has done already
    change nothing. While that goes on, an operation on a session of which nothing waits goes to the store.

    Args:
        backend: The store.
        controller: What stands in for it; the backends of one store share it.
        make_replayer: Makes one more backend of the store, through which a thread replays.
        end_waits: Has those go on who wait for a connection to a node that cannot be reached; None: to any.
    """

    def __init__(
        self,
        backend: Backend,
        controller: OutageController,
        make_replayer: Callable[[], Backend],
        end_waits: Callable[[tuple[str, int] | None], None] = lambda node: None,
    ) -> None:
        super().__init__(backend)
        self._controller = controller
        self._mirror = controller.mirror
        self._make_replayer = make_replayer
        self._end_waits = end_waits
        self._closed = False
        controller.retain(self)

    @property
    @override
    def status(self) -> Status:
        return self._controller.status(self._backend.status)

    @override
    def execute(self, op: Op[R]) -> R:
        lost = None
        if self._controller.state is State.HEALTHY:
            try:
                began = self._mirror.begin()
                return self._recorded(op, self._backend.execute(op), began)
            except BackendUnavailable as error:
                self._begin(op, lost := error)
        return run_steps(self._go_on(op, lost))

    @override
    async def aexecute(self, op: Op[R]) -> R:
        lost = None
        if self._controller.state is State.HEALTHY:
            try:
                began = self._mirror.begin()
                return self._recorded(op, await self._backend.aexecute(op), began)
            except BackendUnavailable as error:
                self._begin(op, lost := error)
        return await arun_steps(self._go_on(op, lost))

    @override
    def close(self) -> None:
        """Replay what waits, where the store can be reached, and close the store."""
        if not self._closed:
            self._closed = True
            run_steps(self._controller.release(self, self._backend))
            super().close()

    @override
    async def aclose(self) -> None:
        """Replay what waits, where the store can be reached, and close the store; the async variant of `close`."""
        if not self._closed:
            self._closed = True
            await arun_steps(self._controller.release(self, self._backend))
            await super().aclose()

    def _recorded(self, op: Op[R], result: R, began: int) -> R:
        self._mirror.record(op, result, began)
        if self._controller.state is State.DEGRADED:  # since the operation began
            self._controller.apply_late(op)
        return result

    def _go_on(self, op: Op[R], lost: BackendUnavailable | None) -> Steps[R]:
        """Execute an operation in an outage, or in what may be one.

        Args:
            op: The operation.
            lost: What happened when it was sent; None: it was not.
        """
        controller, waited = self._controller, 0.0
        while True:
            if self._closed:
                raise BackendClosed("the store was closed; make a new one")
            admission = controller.admit(op, self._make_replayer)
            if admission is Admission.STORE and (lost is None or lost.scope == "node"):
                began = self._mirror.begin()
                try:
                    result: R = yield ExecuteOp(self._backend, op)
                except BackendUnavailable as error:
                    self._begin(op, lost := error)
                else:
                    return self._recorded(op, result, began)
            elif admission is Admission.WAIT and waited < MOST_WAIT:
                yield PAUSE
                waited += PAUSE.seconds
            elif (served := controller.serve(op, lost, self._make_replayer)) is not None:
                if op.in_outage == "journal" and controller.journal.is_durable:
                    yield Sync(controller.journal)
                return served[0]

    def _begin(self, op: Op[Any], error: BackendUnavailable) -> None:
        self._controller.begin(op, error, self._make_replayer)
        if error.scope == "node":
            self._end_waits(error.node)
