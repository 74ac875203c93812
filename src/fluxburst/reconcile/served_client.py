"""What the service and the commands need of a client, besides what users call."""

from __future__ import annotations

from fluxburst.config.file import Config
from fluxburst.errors import BurstErrors, FluxburstError
from fluxburst.hooks.turns import takes_turn
from fluxburst.model.burst import Burst
from fluxburst.model.plan import Plan
from fluxburst.reconcile.cycle import ALL_THE_WAY, CycleResult, Scope, run_cycle
from fluxburst.reconcile.readable_client import ReadableClient


class ServedClient(ReadableClient):
    """A client that can be held, run as far as there is cause, and configured anew."""

    @takes_turn
    def hold(self, *, without_ledger: bool = False) -> None:
        """Hold the instance: one client at a time may act. Whatever acts does so by itself.

        Args:
            without_ledger: Also where its ledger cannot be written now. Then bursts are ended as
                they are due, which is recorded once it can be, and nothing is brought up.

        Raises:
            HeldError: if another client holds it, saying which.
            LedgerError: if the ledger cannot be written.
        """
        self._controller.store.hold(starts_without=without_ledger)

    @takes_turn
    def adopt_bursts(self) -> None:
        """Learn of the bursts that other processes brought up; changes nothing else.

        Raises:
            BurstErrors: for the plugins that could not be asked; those of the others are known.
        """
        self._controller.store.load()
        self._controller.read_queue()
        if errors := self._controller.adopt():
            raise BurstErrors(errors)

    @takes_turn
    def refresh_bursts(self) -> list[Burst]:
        """Look at what has become of the bursts of this client; return all of them.

        A burst is ready when all its nodes are up in the instance. A plugin that does not name
        the hosts of its bursts says itself when they are ready.
        """
        self._controller.store.hold()
        self._controller.read_queue()
        return self._controller.refresh()

    @takes_turn
    def run_cycle(self, scope: Scope = ALL_THE_WAY) -> CycleResult:
        """Run one burst cycle, and return what failed in it rather than raise that.

        Args:
            scope: How far it goes: :meth:`run_burst` and :meth:`run_pass` have one each.

        Raises:
            HeldError: if another client holds the instance; nothing was done.
            LedgerError: if the ledger cannot be written; nothing more was brought up.
            BurstErrors: if it cannot, and something had failed before.
        """
        return run_cycle(self._controller, scope)

    @takes_turn
    def run_pass(self, *, everything: bool, patience: float) -> Plan:
        """Run one pass of a service: like :meth:`run_burst`, but only as far as there is cause.

        Args:
            everything: Ask plugins what is there, and mend the difference. Otherwise only what
                was answered, what changed and what is due is taken in.
            patience: How long to wait for plugins, in seconds; what is not answered by then is
                taken in by a later pass.

        Returns:
            The plan for the jobs that were looked at.

        Raises:
            HeldError: if another client holds the instance; nothing was done.
            LedgerError: if the ledger cannot be written; nothing more was brought up.
            BurstErrors: for all that failed; the rest was done.
        """
        scope = Scope(everything=everything, whole_queue=False, patience=patience)
        result = run_cycle(self._controller, scope)
        result.raise_errors()
        return result.plan

    @takes_turn
    def reconfigure(self, config: Config) -> None:
        """Take another configuration: its policy, selector, ordering, and plugins' parameters.

        Plugins that are loaded are loaded anew; others are loaded, too, if the configuration has
        them. Which packages are blocked does not change.

        Raises:
            FluxburstError: if it cannot be used; the former is used further.
        """
        before = self.config
        loaded = dict(self.plugins)
        try:
            self._configure(config)
            for name in dict.fromkeys([*loaded, *self.config.plugins]):
                self._loader.load(name, None, {}, self.config, validate=self.validate)
            self._controller.scan.start_over()
        except FluxburstError:
            self._configure(before)
            self._loader.put_back(loaded)
            raise

    def _configure(self, config: Config) -> None:
        self.config = config = config.spelled(self.hooks.offers)
        self._controller.policy = config.policy
        self._functions.configure(config, self)
