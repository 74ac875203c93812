"""The base class of burst plugins: three methods and a list of node types, or less, or more."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
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
    """Parameters of a burst plugin without any; others define their own dataclass."""


@dataclass(frozen=True)
class PluginType(Generic[P]):
    """What a package registers for each of its burst plugins.

    Attributes:
        name: The name for loading it.
        parameters: Its dataclass of parameters; None if only the factory knows it.
        factory: Makes the plugin from its parameters.
    """

    name: str
    parameters: type[P] | None
    factory: Callable[[P], BurstPlugin]


class BurstPlugin:
    """The base of burst plugins.

    A plugin that can provision exactly what is planned implements :meth:`node_types`,
    :meth:`create`, :meth:`delete` and :meth:`list_bursts`, and inherits the rest. One that
    sizes its bursts itself overrides :meth:`schedule`, :meth:`run` and :meth:`unburst` instead.

    Attributes:
        name: The name it was loaded under.
        params: Its parameters.
        jobs: The jobs assigned to it, by id. While a plan is made, also those that the plan would
            assign to it; they are removed again.
        planned: The bursts that the plan being applied requests from it.
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
        """Set an attribute; hooks of other packages cannot change fluxburst's own attributes."""
        self._check_caller(attribute)
        if attribute == "name" and self._is_loaded and value != self.name:
            raise TypeError(f"the name of the plugin {self.name} cannot be changed after loading")
        super().__setattr__(attribute, value)

    def __delattr__(self, attribute: str) -> None:
        self._check_caller(attribute)
        super().__delattr__(attribute)

    def _check_caller(self, attribute: str) -> None:
        public = not attribute.startswith("_") and hasattr(BurstPlugin, attribute)
        if public and called_by_another(self):
            raise TypeError(f"a hook cannot change the plugin {self.name}")

    @property
    def params(self) -> Any:
        """Its parameters; another package's hook gets its own copy."""
        return own_copy(self._params) if called_by_another(self) else self._params

    @params.setter
    def params(self, params: Any) -> None:
        self._params = params

    @property
    def jobs(self) -> dict[int, Job]:
        """The jobs assigned to it, by id."""
        return self._jobs

    @jobs.setter
    def jobs(self, jobs: dict[int, Job]) -> None:
        if not isinstance(jobs, dict):
            raise TypeError(f"jobs must be a mapping of jobs by id, not {jobs!r}")
        self._jobs = jobs

    @property
    def bursts(self) -> KnownBursts:
        """Its known bursts, by name, in their latest state."""
        return self._bursts

    @bursts.setter
    def bursts(self, bursts: Mapping[str, Burst]) -> None:
        self._bursts = bursts if isinstance(bursts, KnownBursts) else KnownBursts(bursts)

    def loaded_as(self, name: str) -> None:
        """Receive its permanent name from the client."""
        self.name, self._is_loaded = name, True

    def belongs_to(self, instance_name: Callable[[], str]) -> None:
        """Receive the name of its instance from the client, before anything else."""
        self._instance_name, self._tag = instance_name, ""

    @property
    def instance_tag(self) -> str:
        """Distinguishes this instance from others in the names of bursts: hexadecimal digits.

        A plugin whose instance has an identity that outlasts a restart overrides it.
        """
        if not self._tag:
            self._tag = tag_of(self._instance_name())
        return self._tag

    def owns(self, name: str) -> bool:
        """Whether a name has the form of this plugin's bursts, for this instance.

        Bursts of others that a provider lists must not be deleted: see
        :mod:`fluxburst.model.burst`.
        """
        return is_name_of(name, self.name, self.instance_tag)

    def set_params(self, dc: Any) -> None:
        """Receive parameters; the client has merged configuration and environment into them.

        Raises:
            ParameterError: if they do not have this plugin's dataclass.
        """
        parameters.check_type(self.name, self._param_dataclass, dc)
        self.params = dc

    def validate(self) -> bool:
        """Check what can be checked before anything is provisioned; False refuses the plugin."""
        return True

    def diagnose(self) -> Iterable[Finding]:
        """Check its dependencies, for ``fluxburst doctor``; by default nothing more.

        Such as credentials, permissions, quotas, images. It changes nothing, and reports problems
        as findings, not as exceptions.
        """
        return ()

    @property
    def isolated(self) -> bool:
        """Whether its bursts are separate instances that run one job each.

        By default the value of its parameter ``isolated_burst``, if it has one. The job is held
        here while it runs there: see :mod:`fluxburst.provider.isolation`.
        """
        return bool(getattr(self.params, "isolated_burst", False))

    @property
    def not_renewable(self) -> str:
        """Why :meth:`renew` cannot extend its leases; empty, as by default, if it can.

        A lease that cannot be renewed is made long enough for the longest job of its burst, and
        jobs too long for any lease are declined.
        """
        return ""

    @property
    def run_as(self) -> str:
        """The user for jobs in its isolated bursts: a policy of :mod:`fluxburst.model.identity`.

        By default the value of its parameter ``run_as``; ``submitter`` if it has none.
        """
        return str(getattr(self.params, "run_as", SUBMITTER))

    # --- the provider's side: implement these ----------------------------------------------

    def node_types(self) -> Sequence[NodeType]:
        """Return its node types; empty for a plugin that sizes its bursts itself."""
        return ()

    @property
    def queue(self) -> str:
        """The queue of its nodes; empty, as by default, for none.

        Jobs assigned to this plugin move to it, and back if the plugin cannot run them.
        """
        return ""

    def create(self, burst: Burst) -> Burst:
        """Provision a burst; a second call for the same name adopts what exists.

        Returns:
            The burst with its current state and, once known, its hostnames.

        Raises:
            BurstError: or one of its subclasses. Nothing may be left behind that :meth:`delete` of
                the same name does not find.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement create()")

    def delete(self, burst: Burst) -> None:
        """Terminate a burst; success if it does not exist.

        Raises:
            BurstError: if it may still exist.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement delete()")

    def list_bursts(self) -> Collection[str]:
        """Return the names of this instance's bursts that exist at the provider now.

        The provider may be shared: :meth:`owns` tells by the name whose a burst is. Names of
        others in the answer are reported, and left alone.

        Raises:
            BurstError: if it cannot be determined.
        """
        return [name for name, burst in self.bursts.items() if burst.state in LIVE_STATES]

    def adopt(self) -> Sequence[Burst] | None:
        """Return the bursts that exist at the provider now, whoever created them.

        A burst that lost nodes is ``FAILED``, with the remaining hostnames: it is terminated once
        no job runs on these, and the jobs that still wait for it are released, as are those that
        wait for a burst that does not exist. None, as by default, if only the process that created
        bursts knows them.

        Raises:
            BurstError: if it cannot be determined.
        """
        return None

    @property
    def arms_leases(self) -> bool:
        """Whether its nodes end with their lease automatically, even if fluxburst never comes back.

        By default, a plugin that implements :meth:`renew` is assumed to arm leases.
        """
        return type(self).renew is not BurstPlugin.renew

    def renew(self, burst: Burst) -> Burst:
        """Extend a burst's lease to ``burst.lease_until``; money is reserved until then.

        Returns:
            The burst with its current lease: the requested one, or the former one if the
            provider does not extend it. By default the requested one: if leases cannot be
            armed, only the service ends bursts.

        Raises:
            BurstError: if renewing it failed.
        """
        return burst

    def refresh(self, burst: Burst) -> Burst:
        """Return the current state of a burst. Called while it is starting.

        A burst returned as ``FAILED``, with its error, is terminated, and its jobs are released.

        Raises:
            BurstError: if it cannot be determined; or, if the error is ``final``, because the
                provider will not supply it after all. Then it is terminated, its breaker blocks its
                node type for a while, and its jobs are offered to others.
        """
        return burst

    def observing(self) -> AbstractContextManager[object]:
        """Return the context of one round of observations: of ``adopt()`` and of ``refresh()``.

        A plugin that lists its provider may do so once in a round, instead of once for each burst,
        and forgets the list when the round ends. By default, nothing is shared.
        """
        return nullcontext()

    # --- the client's side: inherit or override these --------------------------------------

    def schedule(self, job: Job) -> bool:
        """Decide whether to take a job. By default: if a node type could run it.

        That is one that matches the job's constraints and has room for every part of it.
        """
        constraint = compiled(self.constraint_of(job), job.id)
        return could_fit(job.chunks, self.node_types(), constraint)

    def constraint_of(self, job: Job) -> Mapping[str, Any] | None:
        """Return the constraint (RFC 31) of a job after this plugin has accepted it.

        By default the job's own. A plugin that moves its jobs to a queue returns that queue's
        requirement. It is also called for jobs that the plugin then declines.
        """
        return job.constraint

    def run(
        self, request_burst: bool = False, nodes: int | None = None, tasks: int | None = None
    ) -> Sequence[Burst]:
        """Provision what is planned, or what is requested on demand.

        Args:
            request_burst: Capacity is requested on demand.
            nodes: How many nodes on demand.
            tasks: Room for how many tasks on demand.

        Returns:
            The bursts, in their current state.

        Raises:
            BurstErrors: for those that failed, after all were tried; their remains were deleted.
        """
        wanted = self.planned
        if request_burst and not wanted:
            wanted = (self.by_hand(nodes, tasks),)
        return provision(self, wanted)

    def unburst(self) -> Sequence[str]:
        """Terminate all bursts.

        Returns:
            The names of those that are gone.

        Raises:
            BurstErrors: for terminations that failed, after all were tried.
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
        """Terminate one burst, or all of them, like :meth:`unburst`.

        Raises:
            BurstError: if the name is neither known nor of the form reserved for this instance.
        """
        if name is None:
            return self.unburst()
        if name not in self.bursts and not self.owns(name):
            raise not_ours(self.name, name)
        return terminate(self, {name})

    def candidates(self, node_type: str) -> Candidates | None:
        """Return the declared nodes that new nodes of a type may join as; None if unknown.

        It is called if constraints of jobs name hosts or ranks. Without an answer, jobs are
        declined whose constraints a new node may not meet.

        Args:
            node_type: The name of one of its node types.
        """
        return None

    def by_hand(self, nodes: int | None, tasks: int | None) -> Burst:
        """Size a burst requested on demand: the cheapest type with room.

        Raises:
            RequestError: if neither nodes nor tasks are set, or one is below 1.
            CapacityError: if no type can supply it.
        """
        if self.isolated:
            raise RequestError(
                f"{self.name} has isolated_burst set: its bursts run one job each, so capacity on "
                "demand is not available"
            )
        node_type, count = sized(self, nodes, tasks)
        prefix = prefix_of(self.name, self.instance_tag)
        name = next(n for i in itertools.count(1) if (n := f"{prefix}{i}") not in self.bursts)
        return Burst(name, self.name, node_type.name, count, price=node_type.price)

    def lacking(self) -> Iterable[str]:
        """Return why it can supply less than it was configured for, for people; empty by default.

        A plan includes this reason for jobs without room.
        """
        return ()

    def in_use(self) -> dict[str, int]:
        """Return how many nodes of each type exist or are planned in live bursts."""
        counts: dict[str, int] = {}
        for burst in self.bursts.values():
            if burst.state in LIVE_STATES:
                counts[burst.node_type] = counts.get(burst.node_type, 0) + burst.nodes
        return counts
