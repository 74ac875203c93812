"""Plan nodes for a queue with the bin packing of Toil's cluster scaler.

Usage: python toil_planner.py INPUT.json
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from toil.provisioners.abstractProvisioner import Shape
from toil.provisioners.clusterScaler import BinPackedFit

WALL_TIME = 3600  # seconds, of every job and of every node's time slice


def shape(item: dict[str, Any]) -> Shape:
    """The Toil shape of a node type or a demand."""
    # Toil cannot count GPUs: its Shape has none, and its scaler ignores a job's
    # accelerators. Neither node types nor demands here have a disk, so the disk
    # carries the GPU count: to Toil it is one more amount that must fit.
    return Shape(
        wallTime=WALL_TIME,
        memory=item["memory"],
        cores=item["cores"],
        disk=item["gpus"],
        preemptible=False,
    )


def plan(problem: dict[str, Any]) -> dict[str, Any]:
    """The result of one packing, which alone is timed."""
    node_shapes = {t["name"]: shape(t) for t in problem["node_types"]}
    job_shapes = [shape(demand) for demand in problem["demands"]]
    fit = BinPackedFit(list(node_shapes.values()))
    start = time.perf_counter()
    # Sorts the jobs, largest first, and calls addJobShape for each.
    rejected = fit.binPack(job_shapes)
    required = fit.getRequiredNodes()
    seconds = time.perf_counter() - start

    # One rejection stands for every job of that shape.
    unplaced = sum(job in rejected for job in job_shapes)
    return {
        "peer": "toil",
        "version": version("toil"),
        "seconds": seconds,
        "nodes": {name: required[node] for name, node in node_shapes.items()},
        "placed": len(job_shapes) - unplaced,
        "unplaced": unplaced,
    }


def main() -> None:
    """Read the input file and print the result line."""
    problem = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(plan(problem)))


if __name__ == "__main__":
    main()
