"""Plan nodes for a queue with the scheduler of Ray's autoscaler v2.

Usage: python ray_planner.py INPUT.json
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil


def resources(item: dict[str, Any]) -> dict[str, float]:
    """Ray's resources of a node type or a demand; like Ray, it has no zero entries."""
    amounts = {"CPU": item["cores"], "GPU": item["gpus"], "memory": item["memory"]}
    return {name: float(amount) for name, amount in amounts.items() if amount > 0}


def node_type_config(node_type: dict[str, Any]) -> NodeTypeConfig:
    """A node type that may be launched up to its max_nodes."""
    return NodeTypeConfig(
        name=node_type["name"],
        min_worker_nodes=0,
        max_worker_nodes=node_type["max_nodes"],
        resources=resources(node_type),
    )


def scheduling_request(problem: dict[str, Any]) -> SchedulingRequest:
    """A request that starts from no instances: every node must be launched."""
    node_types = problem["node_types"]
    requests = [ResourceRequestUtil.make(resources(d)) for d in problem["demands"]]
    return SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs={t["name"]: node_type_config(t) for t in node_types},
        max_num_nodes=sum(t["max_nodes"] for t in node_types),
        resource_requests=ResourceRequestUtil.group_by_count(requests),
    )


def plan(problem: dict[str, Any]) -> dict[str, Any]:
    """The result of one scheduling call, which alone is timed."""
    request = scheduling_request(problem)
    scheduler = ResourceDemandScheduler()
    start = time.perf_counter()
    reply = scheduler.schedule(request)
    seconds = time.perf_counter() - start

    nodes = {t["name"]: 0 for t in problem["node_types"]}
    for launch in reply.to_launch:
        nodes[launch.instance_type] += launch.count
    unplaced = len(reply.infeasible_resource_requests)
    return {
        "peer": "ray",
        "version": ray.__version__,
        "seconds": seconds,
        "nodes": nodes,
        "placed": len(problem["demands"]) - unplaced,
        "unplaced": unplaced,
    }


def main() -> None:
    """Read the input file and print the result line."""
    problem = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(plan(problem)))


if __name__ == "__main__":
    main()
