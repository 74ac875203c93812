#!/usr/bin/env bash
# Slurm 22.05.8 refuses a hostlist with text after its last range, `n[1-2]-ib`, as hosts are often
# called on a second network. python-hostlist 2.3.0 and ClusterShell 1.10.1, which are made for
# Slurm's lists too, expand it; so does Flux (RFC 29). A list that they fold that way cannot be
# given to sbatch --nodelist. With another range at the end, `n[1-2]m[1-2]`, Slurm expands it.
#
# Seen: scontrol: Invalid hostlist: n[1-2]-ib
#       python-hostlist and ClusterShell: n1-ib n2-ib; both fold the two names to n[1-2]-ib
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
scontrol() {
  SLURM_CONF=$PWD/slurm.conf LD_LIBRARY_PATH=${library%/*} slurm/usr/bin/scontrol "$@"
}

scontrol show hostnames 'n[1-2]-ib' >suffix 2>&1 || true
scontrol show hostnames 'n[1-2]m[1-2]' | paste -sd' ' >two-ranges
venv/bin/python - >python <<'PYTHON'
import hostlist
from ClusterShell.NodeSet import NodeSet

print(*hostlist.expand_hostlist("n[1-2]-ib"), hostlist.collect_hostlist(["n1-ib", "n2-ib"]))
print(*NodeSet("n[1-2]-ib"), NodeSet("n1-ib,n2-ib"))
PYTHON
head suffix two-ranges python

grep -q 'Invalid hostlist: n\[1-2\]-ib' suffix
grep -qx 'n1m1 n1m2 n2m1 n2m2' two-ranges
[ "$(grep -cx 'n1-ib n2-ib n\[1-2\]-ib' python)" = 2 ]
