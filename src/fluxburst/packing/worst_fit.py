"""Places jobs like ``flux.resource.Rv1Pool``, which the schedulers of flux-core use.

Worst fit: a job takes nodes with the most free cores first, then those with the most free GPUs,
then the lowest ranks. Memory and other resources are ignored. Consecutive equal nodes
form one run: the cost of a job depends on the number of runs that it touches.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from fluxburst.model.jobspec import Chunk


class Run(NamedTuple):
    """Equal nodes. Sorts in the order of their use.

    Attributes:
        full: Free cores of each, negated.
        gpus: Free GPUs of each, negated.
        rank: The first of them; the others follow.
        nodes: Their number.
        source: Their supply; 0 for existing or coming nodes.
    """

    full: int
    gpus: int
    rank: int
    nodes: int
    source: int


class _Key(NamedTuple):
    """The common properties of nodes in one run list."""

    gpus: int
    bits: int
    idle: bool


class _Want(NamedTuple):
    """The requirements of a job for the nodes that it takes."""

    cores: int
    gpus: int
    each_a_node: bool
    exclusive: bool
    bits: int

    def suits(self, key: _Key) -> bool:
        """Whether nodes of this key may be used, given enough cores."""
        there = key.gpus >= self.gpus and key.bits & self.bits == self.bits
        return there and (key.idle or not self.exclusive)

    def units_on(self, cores: int, gpus: int) -> int:
        """Return how many units have room on a suitable node."""
        if self.each_a_node:
            return int(cores >= self.cores)
        return min(cores // self.cores, gpus // self.gpus) if self.gpus else cores // self.cores


def _want(chunk: Chunk, bits: int) -> _Want:
    return _Want(max(1, chunk.cores), chunk.gpus, chunk.node, chunk.exclusive, bits)


_Taken = list[tuple[_Key, Run]]


class WorstFit:
    """Nodes with free cores, in the order of their use."""

    def __init__(self) -> None:
        self._runs: dict[_Key, list[Run]] = {}
        self._next = 0

    def copy(self) -> WorstFit:
        """Return an independent copy."""
        other = WorstFit()
        other._runs = {key: list(runs) for key, runs in self._runs.items()}
        other._next = self._next
        return other

    def settled(self) -> WorstFit:
        """Return the same nodes once all of them exist."""
        other = self.copy()
        for runs in other._runs.values():
            runs[:] = [run._replace(source=0) for run in runs]
        return other

    def add(
        self, nodes: int, cores: int, gpus: int, bits: int, *, idle: bool = True, source: int = 0
    ) -> None:
        """Add equal nodes, with ranks above all existing ones.

        Args:
            nodes: Their number.
            cores: Free cores of each.
            gpus: Free GPUs of each.
            bits: The constraints that they match, from
                :class:`~fluxburst.model.constraints.ConstraintBits`.
            idle: All of their cores are free.
            source: Their supply.
        """
        if nodes:
            self._push(_Key(gpus, bits, idle), Run(-cores, -gpus, self._next, nodes, source))
            self._next += nodes

    def _push(self, key: _Key, run: Run) -> None:
        if run.full and run.nodes:
            heapq.heappush(self._runs.setdefault(key, []), run)

    def untouched(self) -> Iterator[tuple[int, int, int]]:
        """Yield (source, bits, nodes) of unused nodes."""
        for key, runs in self._runs.items():
            if key.idle:
                for run in runs:
                    yield run.source, key.bits, run.nodes

    def place(self, chunks: Sequence[Chunk], bits: int) -> Collection[int] | None:
        """Place a job on nodes with these bits; return the supplies it uses, None if it fails.

        Parts of a job may share nodes.
        """
        before = None
        if len(chunks) > 1:
            before = {key: list(runs) for key, runs in self._runs.items()}
        sources: set[int] = set()
        for chunk in chunks:
            taken = self._place(chunk, bits)
            if taken is None:
                self._runs = self._runs if before is None else before
                return None
            sources.update(run.source for _, run in taken)
        return sources

    def _place(self, chunk: Chunk, bits: int) -> _Taken | None:
        """Place a part of a job; return the runs it took, None if there is no room."""
        want = _want(chunk, bits)
        units, most = 0, max(chunk.count, chunk.details.most)
        taken: _Taken = []
        remains: _Taken = []
        while units < most:
            found = self._first(want)
            if found is None:
                break
            key, run = found
            heapq.heappop(self._runs[key])
            taken.append((key, run))
            units += self._take(want, key, run, most - units, remains)
        enough = units >= chunk.count
        for key, run in remains if enough else taken:
            self._push(key, run)
        return taken if enough else None

    def is_crowded(self, chunks: Sequence[Chunk], bits: int) -> bool:
        """Whether a job lacks cores while the GPUs that it requests are free."""
        gpus = max((chunk.gpus for chunk in chunks), default=0)
        if not gpus:
            return False
        want = _Want(1, gpus, False, False, bits)
        return any(runs and want.suits(key) for key, runs in self._runs.items())

    def units_short(self, chunk: Chunk, bits: int) -> int:
        """Return how many units of a chunk without enough room have none."""
        if chunk.count == 1:
            return 1
        want = _want(chunk, bits)
        units = sum(
            run.nodes * want.units_on(-run.full, -run.gpus)
            for key, runs in self._runs.items()
            if want.suits(key)
            for run in runs
        )
        return max(0, chunk.count - units)

    def _first(self, want: _Want) -> tuple[_Key, Run] | None:
        """Return the next run to use, if it has room."""
        best: tuple[_Key, Run] | None = None
        for key, runs in self._runs.items():
            if runs and (best is None or runs[0] < best[1]) and want.suits(key):
                best = key, runs[0]
        return best if best is not None and -best[1].full >= want.cores else None

    def _take(self, want: _Want, key: _Key, run: Run, units: int, remains: _Taken) -> int:
        """Take up to this many units from a run; update its rest, and return how many."""
        cores, gpus = -run.full, -run.gpus
        each = want.units_on(cores, gpus)
        parts = [(min(run.nodes, units // each), each)]
        if parts[0][0] < run.nodes and units % each:
            parts.append((1, units % each))
        rank, placed = run.rank, 0
        for nodes, on_each in parts:
            if nodes and not want.exclusive:
                rest_cores, rest_gpus = cores - on_each * want.cores, gpus - on_each * want.gpus
                rest = Run(-rest_cores, -rest_gpus, rank, nodes, run.source)
                remains.append((_Key(rest_gpus, key.bits, False), rest))
            rank, placed = rank + nodes, placed + nodes * on_each
        untouched = run.nodes - (rank - run.rank)
        if untouched:
            self._push(key, run._replace(rank=rank, nodes=untouched))
        return placed
