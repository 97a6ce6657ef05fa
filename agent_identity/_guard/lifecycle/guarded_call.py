"""The lifecycle of a guarded call: judge, settle, attach, run, detach, and succeed, fail or suspend."""

import inspect
from collections.abc import Callable, Iterable
from typing import final

from agent_identity._guard.calls.call import Call, CallRequest
from agent_identity._guard.lifecycle._generators import continued
from agent_identity._guard.lifecycle.deferred_results import ATOMS
from agent_identity._guard.lifecycle.guarded_block import Action
from agent_identity._guard.lifecycle.steps import CallSteps, Judge

Body = Callable[[Call], object]
"""The code to run if the call may; it gets the call, whose ``arguments`` were judged."""


@final
class GuardedCall(CallSteps):
    """Guards each call of one tool, whatever the framework. Received from :meth:`Enforcer.guard`.

    :meth:`run` is the whole lifecycle, and :meth:`block` wraps it round a block. Frameworks that run bodies themselves
    take the steps one by one: :meth:`begin`, then :meth:`succeed` or :meth:`fail`; and :meth:`check` and :meth:`emit`
    for each item of a stream. The methods ending in ``_async`` do the same without blocking the event loop.
    """

    __slots__ = ()

    def judged_by(self, judge: Judge) -> "GuardedCall":
        """Return the same guard with a hook around :meth:`judge`.

        Args:
            judge: Gets each request in place of :meth:`judge`, and calls that.
        """
        return GuardedCall(self._guard, lazy=self.lazy, judge=judge)

    def run(self, request: CallRequest, body: Body) -> object:
        """Run a body under guard.

        Args:
            request: The call.
            body: Runs if the call may; the handler of a route runs in its place.

        Returns:
            The result for the caller: that of the body. A generator, iterator, awaitable or context manager is
            wrapped, so that each step passes the guard; the call ends with its last step.

        Raises:
            Denied: The call is refused, or its result withheld; the ledger has it.
            EvidenceError: The call could not be recorded, and did not run.
            ConfigurationError: With code ``lazy_result``: the result would run on unguarded, and is withheld.
        """
        call = self.judge(request)
        if call.routing is not None:
            self.settle(call)
        call.attach()
        try:
            result = (call.route or body)(call)
        except BaseException as error:
            self.fail(call, error)
            raise
        return self.succeed(call, result)

    async def run_async(self, request: CallRequest, body: Body) -> object:
        """Do what :meth:`run` does without blocking the event loop; an awaitable result of the body is awaited."""
        call = await self.begin_async(request)
        try:
            result = (call.route or body)(call)
            if inspect.isawaitable(result):
                result = await result
        except BaseException as error:
            await self.fail_async(call, error)
            raise
        return await self.succeed_async(call, result)

    def block(self, request: CallRequest) -> Action:
        """Return a guarded block, for ``with`` and ``async with``; a call that is routed is refused.

        Args:
            request: The call.
        """
        self.declare()
        return Action(self, request)

    def begin(self, request: CallRequest) -> Call:
        """Judge a call, settle its approval, and attach its span and the marker of its body to the context.

        If ``call.route`` is set then, run that handler in place of the body.

        Raises:
            Denied: The call is refused; the refusal is in the ledger.
            EvidenceError: Intent or refusal could not be recorded; the body must not run.
        """
        call = self.judge(request)
        if call.routing is not None:
            self.settle(call)
        call.attach()
        return call

    async def begin_async(self, request: CallRequest) -> Call:
        """Do what :meth:`begin` does without blocking the event loop."""
        call = await self.judge_async(request)
        if call.routing is not None:
            await self.settle_async(call)
        call.attach()
        return call

    def succeed(self, call: Call, result: object = None) -> object:
        """Detach a call, and record that its body returned.

        Args:
            call: The call.
            result: What the body returned.

        Returns:
            The result for the caller; see :meth:`run`.

        Raises:
            ContentBlocked: The policy withholds the result because of an inspector's finding.
            Denied: The call had ended by a refusal before.
            ConfigurationError: With code ``lazy_result``: the result would run on unguarded, and is withheld.
        """
        call.detach()
        if type(result) not in ATOMS:
            later = continued(self, call, result, self.lazy)
            if later is not None:
                return later
        return self.end(call, result, self.lazy)

    async def succeed_async(self, call: Call, result: object = None) -> object:
        """Do what :meth:`succeed` does without blocking the event loop."""
        call.detach()
        if type(result) not in ATOMS:
            later = continued(self, call, result, self.lazy)
            if later is not None:
                return later
        return await self.end_async(call, result, self.lazy)

    def suspend(self, call: Call) -> None:
        """Detach a call, and record that its body suspended it, to be repeated with the same id.

        Bodies that suspend by an exception need no call of this: see ``suspends`` of :meth:`Enforcer.guard`.

        Args:
            call: The call.
        """
        call.detach()
        self._guard.suspend(call)

    def declare(self, function: Callable[..., object] | None = None) -> None:
        """Make the tool known to the enforcer before its first call, for the comparison of tools with the policy.

        Args:
            function: Its function, if it has one; a second function of the same name is logged.
        """
        tools, guard = self._enforcement.tools, self._guard
        tools.learn(self.tool, guard.data, guard.declared, endorses=guard.endorses, knows_threads=guard.knows_threads)
        tools.tell_labels(self.tool, self._enforcement.policy)
        if function is not None:
            tools.learn_function(self.tool, function)

    def expect(self, names: set[str]) -> None:
        """Log, when a task has ended, the names of declared tools that no one has guarded yet.

        Args:
            names: The names; the caller removes each name from the set when it guards that tool.
        """
        self._enforcement.tools.expect(names)

    def saw(self, calls: Iterable[str]) -> None:
        """Know the ids of calls that a model has just asked for in the open task.

        With information flow, a call with another id is of unknown integrity: it is one that the task goes on with.

        Args:
            calls: The ids.
        """
        task = self.current_task
        if task is not None and task.flow is not None:
            task.flow.shared.saw(calls)

    def shares_enforcer(self, other: CallSteps) -> bool:
        """Return whether another guard belongs to the same enforcer.

        Args:
            other: The other one.
        """
        return self._enforcement is other._enforcement  # noqa: SLF001  Of the same class.
