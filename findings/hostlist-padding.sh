#!/usr/bin/env bash
# ClusterShell 1.10.1 refuses a hostlist range whose bounds differ in width, `n[01-3]`. Slurm
# 22.05.8 and python-hostlist 2.3.0 take it: the width of the first number pads the rest. Flux's
# RFC 29 does as they do. So a hostlist that scontrol takes may stop a script that folds it with
# nodeset.
#
# Seen: ClusterShell: NodeSetParseRangeError ... padding length mismatch
#       python-hostlist and scontrol: n01 n02 n03
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

venv/bin/python - >refused <<'PYTHON'
from ClusterShell.NodeSet import NodeSet, NodeSetParseRangeError

try:
    print(list(NodeSet("n[01-3]")))
except NodeSetParseRangeError as error:
    print("refused:", error)
PYTHON
venv/bin/python -c 'import hostlist; print(*hostlist.expand_hostlist("n[01-3]"))' >hostlist
SLURM_CONF=$PWD/slurm.conf LD_LIBRARY_PATH=${library%/*} \
  slurm/usr/bin/scontrol show hostnames 'n[01-3]' | paste -sd' ' >scontrol
head refused hostlist scontrol

grep -q 'refused: .*padding length mismatch' refused
grep -qx 'n01 n02 n03' hostlist
grep -qx 'n01 n02 n03' scontrol
