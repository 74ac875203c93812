"""What a burst plugin is: three methods and a list of node types, or less, or more."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from fluxburst.config import parameters
from fluxburst.errors import RequestError
from fluxburst.model.burst import LIVE_STATES, Burst, BurstState, is_name_of, prefix_of, tag_of
from fluxburst.model.constraints import compiled
from fluxburst.model.identity import SUBMITTER
from fluxburst.model.job import Job
from fluxburst.model.node import NodeType
from fluxburst.packing.fitting import could_fit
from fluxburst.packing.pool import Candidates
from fluxburst.plugin.defaults import not_ours, provision, sized, terminate
from fluxburst.plugin.failures import as_burst_error, only_looking
from fluxburst.plugin.findings import Finding
from fluxburst.plugin.implementers import called_by_another, own_copy
from fluxburst.plugin.known_bursts import KnownBursts
from fluxburst.plugin.validation import check_names

__all__ = [
    "BurstParameters",
    "BurstPlugin",
    "Finding",
    "PluginType",
    "as_burst_error",
    "only_looking",
]

P = TypeVar("P")


@dataclass
class BurstParameters:
    """Parameters of a burst plugin that needs none; others define a dataclass of their own."""


@dataclass(frozen=True)
class PluginType(Generic[P]):
    """What a package registers for each burst plugin it offers.

    Attributes:
        name: The name users load it by.
        parameters: Its dataclass of parameters; None where it is only known to the factory.
        factory: Makes the plugin from its parameters.
    """

    name: str
    parameters: type[P] | None
    factory: Callable[[P], BurstPlugin]


class BurstPlugin:
    """The base of burst plugins.

    A plugin that can be told exactly what to bring up implements :meth:`node_types`,
    :meth:`create`, :meth:`delete` and :meth:`list_bursts`, and inherits the rest. One that
    decides by itself overrides :meth:`schedule`, :meth:`run` and :meth:`unburst` instead.

    Attributes:
        name: The name it was loaded by.
        params: Its parameters.
        jobs: The jobs it has been given, by id. While a plan is made it also holds those that
            the plan would give it; they are taken out again.
        planned: What the plan being applied asks it to bring up.
    """

    _param_dataclass: ClassVar[type[Any]] = BurstParameters
    _instance_name: Callable[[], str] = str
    _tag: str = ""
    _is_loaded: bool = False
    name: str = ""
    planned: tuple[Burst, ...] = ()

    def __init__(self, dataclass: Any, **kwargs: Any) -> None:
        self.set_params(dataclass)
        self.jobs = {}
        self.bursts = {}

    def __setattr__(self, attribute: str, value: Any) -> None:
        """Set an attribute; what fluxburst knows of a plugin, a hook of another cannot set."""
        self._check_caller(attribute)
        if attribute == "name" and self._is_loaded and value != self.name:
            raise TypeError(f"the plugin {self.name} keeps the name that it was loaded by")
        super().__setattr__(attribute, value)

    def __delattr__(self, attribute: str) -> None:
        self._check_caller(attribute)
        super().__delattr__(attribute)

    def _check_caller(self, attribute: str) -> None:
        public = not attribute.startswith("_") and hasattr(BurstPlugin, attribute)
        if public and called_by_another(self):
            raise TypeError(f"a hook may look at the plugin {self.name}, and cannot change it")

    @property
    def params(self) -> Any:
        """Its parameters; a hook of another has a copy of its own."""
        return own_copy(self._params) if called_by_another(self) else self._params

    @params.setter
    def params(self, params: Any) -> None:
        self._params = params

    @property
    def jobs(self) -> dict[int, Job]:
        """The jobs that it has been given, by id."""
        return self._jobs

    @jobs.setter
    def jobs(self, jobs: dict[int, Job]) -> None:
        if not isinstance(jobs, dict):
            raise TypeError(f"jobs holds jobs by id, and is not {jobs!r}")
        self._jobs = jobs

    @property
    def bursts(self) -> KnownBursts:
        """What it knows to have brought up, by name, in their latest state."""
        return self._bursts

    @bursts.setter
    def bursts(self, bursts: Mapping[str, Burst]) -> None:
        self._bursts = KnownBursts(bursts)

    def loaded_as(self, name: str) -> None:
        """Learn by which name it is loaded, which it keeps; the client says so."""
        self.name, self._is_loaded = name, True

    def belongs_to(self, instance_name: Callable[[], str]) -> None:
        """Learn how the instance is called that it serves; the client says so before all else."""
        self._instance_name, self._tag = instance_name, ""

    @property
    def instance_tag(self) -> str:
        """What tells this instance from others in the names of bursts: hexadecimal digits.

        A plugin that knows its instance by something that outlasts a restart has another one.
        """
        if not self._tag:
            self._tag = tag_of(self._instance_name())
        return self._tag

    def owns(self, name: str) -> bool:
        """Whether a name is of the form that bursts of this plugin have, for this instance.

        What a provider lists of others is not to be deleted: see
        :mod:`fluxburst.model.burst`.
        """
        return is_name_of(name, self.name, self.instance_tag)

    def set_params(self, dc: Any) -> None:
        """Take parameters; the client has put config and environment into them already.

        Raises:
            ParameterError: if they are not of this plugin's dataclass.
        """
        parameters.check_type(self.name, self._param_dataclass, dc)
        self.params = dc

    def validate(self) -> bool:
        """Check what can be checked before anything is brought up; False refuses the plugin."""
        return True

    def diagnose(self) -> Iterable[Finding]:
        """Check what it depends on, for ``fluxburst doctor``; nothing more than that by default.

        Such as credentials, permissions, quotas, images. It changes nothing, and what is wrong is
        a finding, not an exception.
        """
        return ()

    @property
    def isolated(self) -> bool:
        """Whether its bursts are instances of their own, each of which runs one job.

        By default that is what its parameter ``isolated_burst`` says, where it has one. The job is
        held here while it runs there: see :mod:`fluxburst.provider.isolation`.
        """
        return bool(getattr(self.params, "isolated_burst", False))

    @property
    def not_renewable(self) -> str:
        """Why :meth:`renew` cannot make its leases longer; empty, as by default, where it can.

        A lease that cannot be renewed is made as long as the longest job needs that its burst is
        brought up for, and jobs that no lease is long enough for are not taken.
        """
        return ""

    @property
    def run_as(self) -> str:
        """As whom its isolated bursts may run jobs: a policy of :mod:`fluxburst.model.identity`.

        By default that is what its parameter ``run_as`` says; ``submitter`` where it has none.
        """
        return str(getattr(self.params, "run_as", SUBMITTER))

    # --- what a plugin supplies: implement these -------------------------------------------

    def node_types(self) -> Sequence[NodeType]:
        """Return what it can supply; empty for a plugin that sizes its bursts itself."""
        return ()

    @property
    def queue(self) -> str:
        """The queue of its nodes; empty, as by default, for none.

        Jobs are moved to it when they are given to this plugin, and back if it cannot run them.
        """
        return ""

    def create(self, burst: Burst) -> Burst:
        """Bring a burst up, or find it: a second call for the same name adopts what is there.

        Returns:
            The burst as it is now, with its state and, once they are known, its hostnames.

        Raises:
            BurstError: or one of its kinds. Nothing may be left behind that :meth:`delete` of
                the same name does not find.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement create()")

    def delete(self, burst: Burst) -> None:
        """Take a burst down; one that is not there is a success.

        Raises:
            BurstError: if it may still be there.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement delete()")

    def list_bursts(self) -> Collection[str]:
        """Return the names of the bursts of this instance that exist out there now.

        Others may share the provider: :meth:`owns` tells theirs by the name. What is returned
        without being ours is said, and left alone.

        Raises:
            BurstError: if that cannot be told.
        """
        return [name for name, burst in self.bursts.items() if burst.state in LIVE_STATES]

    def adopt(self) -> Sequence[Burst] | None:
        """Return the bursts that exist out there now, whoever brought them up, as they are.

        One that lost nodes is ``FAILED``, with the hostnames that it has left: it is taken down
        once no job runs on these, and the jobs that still wait for it are free again, as are those
        that wait for a burst that is not there. None, as by default, where only the process that
        brought bursts up knows them.

        Raises:
            BurstError: if that cannot be told.
        """
        return None

    @property
    def arms_leases(self) -> bool:
        """Whether its nodes end by themselves with their lease, also if nobody comes back to them.

        By default a plugin is believed to arm leases if it implements :meth:`renew`.
        """
        return type(self).renew is not BurstPlugin.renew

    def renew(self, burst: Burst) -> Burst:
        """Arm a burst's lease anew, to end at ``burst.lease_until``; money is set aside till then.

        Returns:
            The burst with the lease that it has now: that asked for, or the one it had where the
            provider does not let it be longer. By default as asked for: where nothing can be
            armed, the service alone ends bursts.

        Raises:
            BurstError: if it could not be renewed.
        """
        return burst

    def refresh(self, burst: Burst) -> Burst:
        """Return a burst as it is now. Called while waiting for it to come up.

        One that is returned as ``FAILED``, with its error, is taken down, and its jobs are free.

        Raises:
            BurstError: if that cannot be told; or, where the error is ``final``, if the provider
                will not supply it after all. It is taken down then, its node type is not asked for
                until its breaker lets it, and its jobs are offered to others.
        """
        return burst

    # --- what the client calls: inherit or override these ----------------------------------

    def schedule(self, job: Job) -> bool:
        """Decide whether to take a job. By default: some node type could run it.

        That is one that matches the job's constraints and has room for every part of it.
        """
        constraint = compiled(self.constraint_of(job), job.id)
        return could_fit(job.chunks, self.node_types(), constraint)

    def constraint_of(self, job: Job) -> Mapping[str, Any] | None:
        """Return the constraint (RFC 31) that a job will have once this plugin has accepted it.

        By default it is the one that the job has. A plugin that moves its jobs to a queue answers
        with what that queue requires. It is also asked about jobs that it then does not accept.
        """
        return job.constraint

    def run(
        self, request_burst: bool = False, nodes: int | None = None, tasks: int | None = None
    ) -> Sequence[Burst]:
        """Bring up what is planned, or what is asked for by hand.

        Args:
            request_burst: Capacity is asked for by hand.
            nodes: How many nodes by hand.
            tasks: Room for how many tasks by hand.

        Returns:
            The bursts, in the state they are in now.

        Raises:
            BurstErrors: for those that did not come up, once all have been tried; what was left
                of them has been deleted.
        """
        wanted = self.planned
        if request_burst and not wanted:
            wanted = (self.by_hand(nodes, tasks),)
        return provision(self, wanted)

    def unburst(self) -> Sequence[str]:
        """Take all bursts down.

        Returns:
            The names that are gone.

        Raises:
            BurstErrors: for those that could not be taken down, once all have been tried.
        """
        known = {n for n, burst in self.bursts.items() if burst.state is not BurstState.ENDED}
        try:
            listed = check_names(self.list_bursts(), "list_bursts()")
            known |= {name for name in listed if self.owns(name)}
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a provider's library may raise anything
            return terminate(self, known, [as_burst_error(error, self.name)])
        return terminate(self, known)

    def cleanup(self, name: str | None = None) -> Sequence[str]:
        """Take one burst down, or all of them. Otherwise as :meth:`unburst`.

        Raises:
            BurstError: if the name is neither known nor one that only we give.
        """
        if name is None:
            return self.unburst()
        if name not in self.bursts and not self.owns(name):
            raise not_ours(self.name, name)
        return terminate(self, {name})

    def candidates(self, node_type: str) -> Candidates | None:
        """Return the declared nodes that new nodes of a type may come as; None if not known.

        It is asked for where constraints of jobs name hosts or ranks. Without an answer, jobs are
        declined whose constraints a new node may not meet.

        Args:
            node_type: The name of one of its node types.
        """
        return None

    def by_hand(self, nodes: int | None, tasks: int | None) -> Burst:
        """Size a burst that was asked for by hand: the cheapest type that has room.

        Raises:
            RequestError: if neither nodes nor tasks are given, or one is below 1.
            CapacityError: if no type can supply it.
        """
        if self.isolated:
            raise RequestError(
                f"{self.name} has isolated_burst set: its bursts run a job each, and there is "
                "none for capacity by hand"
            )
        node_type, count = sized(self, nodes, tasks)
        names = {*self.bursts, *self.list_bursts()}
        prefix = prefix_of(self.name, self.instance_tag)
        name = next(n for i in itertools.count(1) if (n := f"{prefix}{i}") not in names)
        return Burst(name, self.name, node_type.name, count, price=node_type.price)

    def lacking(self) -> Iterable[str]:
        """Return why it can supply less than it was set up for, for a person; empty by default.

        A plan says so of the jobs that it has no room for.
        """
        return ()

    def in_use(self) -> dict[str, int]:
        """Return how many nodes of each type there are, or will be, in bursts that live."""
        counts: dict[str, int] = {}
        for burst in self.bursts.values():
            if burst.state in LIVE_STATES:
                counts[burst.node_type] = counts.get(burst.node_type, 0) + burst.nodes
        return counts
