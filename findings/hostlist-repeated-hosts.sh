#!/usr/bin/env bash
# A Slurm hostlist keeps order and repeats: `scontrol show hostnames a,b,a` prints three lines, and
# a task layout relies on it. python-hostlist 2.3.0 drops repeats unless it is told not to
# (allow_duplicates=True), and ClusterShell 1.10.1 has sets: both answer two hosts, without a word.
# Who counts slots by the length of the list counts too few. Flux (RFC 29) keeps repeats as Slurm
# does.
#
# Seen: scontrol: a b a; python-hostlist: a b; ClusterShell: a b
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

python3 -m venv venv
venv/bin/pip install --quiet ClusterShell==1.10.1 python-hostlist==2.3.0 2>pip.log
apt-get download -qq slurm-client=22.05.8* slurm-wlm-basic-plugins=22.05.8* 2>apt.log
for package in *.deb; do dpkg -x "$package" slurm; done
printf 'ClusterName=c\nSlurmctldHost=localhost\nNodeName=localhost\nPartitionName=p Nodes=ALL\n' \
  >slurm.conf
library=$(find "$PWD/slurm" -name libslurmfull.so)

SLURM_CONF=$PWD/slurm.conf LD_LIBRARY_PATH=${library%/*} \
  slurm/usr/bin/scontrol show hostnames a,b,a | paste -sd' ' >scontrol
venv/bin/python - >python <<'PYTHON'
import hostlist
from ClusterShell.NodeSet import NodeSet

print("python-hostlist:", *hostlist.expand_hostlist("a,b,a"))
print("with duplicates:", *hostlist.expand_hostlist("a,b,a", allow_duplicates=True))
print("ClusterShell:", *NodeSet("a,b,a"))
PYTHON
head scontrol python

grep -qx 'a b a' scontrol
grep -qx 'python-hostlist: a b' python
grep -qx 'with duplicates: a b a' python
grep -qx 'ClusterShell: a b' python
