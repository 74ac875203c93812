"""The parts of a client for the service and the commands, beyond those for users."""

from __future__ import annotations

from fluxburst.config.file import Config
from fluxburst.errors import BurstErrors, FluxburstError
from fluxburst.hooks.turns import takes_turn
from fluxburst.model.burst import Burst
from fluxburst.model.plan import Plan
from fluxburst.reconcile.cycle import ALL_THE_WAY, CycleResult, Scope, run_cycle
from fluxburst.reconcile.readable_client import ReadableClient


class ServedClient(ReadableClient):
    """A client that can be held, run pass by pass, and reconfigured."""

    @takes_turn
    def hold(self, *, without_ledger: bool = False) -> None:
        """Hold the instance: only one client may act at a time. Acting implies holding.

        without_ledger: Even if its ledger is not writable now. Then bursts are ended when
            due, which is recorded later, and nothing is provisioned.

        Raises:
            HeldError: if another client holds it; says which.
            LedgerError: if the ledger is not writable.
        """
        self._controller.store.hold(starts_without=without_ledger)

    @takes_turn
    def adopt_bursts(self) -> None:
        """Find bursts created by other processes; changes nothing else.

        Raises:
            BurstErrors: for plugins that could not be asked; the others' bursts are known.
        """
        self._controller.store.load()
        self._controller.read_queue()
        if errors := self._controller.adopt():
            raise BurstErrors(errors)

    @takes_turn
    def refresh_bursts(self) -> list[Burst]:
        """Observe the bursts of this client; return all of them.

        A burst is ready when all its nodes are up in the instance. A plugin that does not name
        its bursts' hosts decides itself when they are ready.
        """
        self._controller.store.hold()
        self._controller.read_queue()
        return self._controller.refresh()

    @takes_turn
    def run_cycle(self, scope: Scope = ALL_THE_WAY) -> CycleResult:
        """Run one burst cycle, and return its failures instead of raising them.

        Args:
            scope: Its scope: :meth:`run_burst` and :meth:`run_pass` have one each.

        Raises:
            HeldError: if another client holds the instance; nothing was done.
            LedgerError: if the ledger is not writable; nothing more was provisioned.
            BurstErrors: likewise, if something had failed before.
        """
        return run_cycle(self._controller, scope)

    @takes_turn
    def run_pass(self, *, everything: bool, patience: float) -> Plan:
        """Run one pass of a service: like :meth:`run_burst`, but only as far as necessary.

        Args:
            everything: Ask plugins what exists, and repair differences. Otherwise process only
                answers, changes and what is due.
            patience: How long to wait for plugins, in seconds; a later pass processes late
                answers.

        Returns:
            The plan for the jobs examined.

        Raises:
            HeldError: if another client holds the instance; nothing was done.
            LedgerError: if the ledger is not writable; nothing more was provisioned.
            BurstErrors: for everything that failed; the rest was done.
        """
        scope = Scope(everything=everything, whole_queue=False, patience=patience)
        result = run_cycle(self._controller, scope)
        result.raise_errors()
        return result.plan

    @takes_turn
    def reconfigure(self, config: Config) -> None:
        """Apply another configuration: its policy, selector, ordering, and plugins' parameters.

        Reloads loaded plugins, and loads others that the configuration names. Which packages are
        blocked does not change.

        Raises:
            FluxburstError: if it is invalid; the former one stays in use.
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
