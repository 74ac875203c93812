#!/usr/bin/env bash
# slurmutils 1.3.2 reads a slurm.conf into dictionaries by name. NodeName=DEFAULT may stand several
# times in one, each for the nodes after it (slurm.conf(5)). Of these it keeps the last alone, and
# writes it first: an editor that reads and writes a file gives n1 8 CPUs where it had 4. And words
# in capitals, as the manual's own example has them (State=UP, Default=YES, State=CLOUD), are
# refused, though Slurm does not mind the case.
#
# Seen: nodename=DEFAULT cpus=8 / nodename=n1 / nodename=n2
#       ModelError: 'UP' is not one of ['up', 'down', 'drain', 'inactive']
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

python3 -m venv venv
venv/bin/pip install --quiet slurmutils==1.3.2 2>pip.log
venv/bin/python - >seen <<'PYTHON'
from slurmutils import SlurmConfig

lines = ["NodeName=DEFAULT CPUs=4", "NodeName=n1", "NodeName=DEFAULT CPUs=8", "NodeName=n2"]
print(SlurmConfig.from_str("\n".join(lines)))
for line in ("PartitionName=debug Nodes=ALL State=UP", "NodeName=n1 State=CLOUD"):
    try:
        print(SlurmConfig.from_str(line))
    except Exception as error:
        print(type(error).__name__, error)
PYTHON
cat seen

head -3 seen | diff - <(printf '%s\n' 'nodename=DEFAULT cpus=8' nodename=n1 nodename=n2)
grep -q "ModelError 'UP' is not one of" seen
grep -q "ModelError 'CLOUD' is not one of" seen
