#!/usr/bin/env bash
# Parsl 2026.10.26: the walltime of its Slurm, PBS, LSF and Grid Engine providers is HH:MM:SS, and
# the seconds are cut off. "01:00:30" asks for 60 minutes. "00:00:45" asks for 0 minutes, which is
# logged, and asked for all the same: to sbatch a limit of zero means no limit (sbatch(1)). The
# shortest pilot becomes the one that nothing ends.
#
# Seen: 01:00:30 -> 60, 00:00:45 -> 0; sbatch(1): "A time limit of zero requests that no time limit
#       be imposed."
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

python3 -m venv venv
venv/bin/pip install --quiet parsl==2026.10.26 2>pip.log
apt-get download -qq slurm-client=22.05.8* 2>apt.log
dpkg -x slurm-client*.deb slurm
venv/bin/python - >seen 2>log <<'PYTHON'
from parsl.providers.slurm.template import template_string
from parsl.utils import wtime_to_minutes

for walltime in ("01:00:30", "00:00:45"):
    print(walltime, wtime_to_minutes(walltime))
print(next(line for line in template_string.splitlines() if "--time" in line))
PYTHON
cat seen
zgrep -h 'limit of zero' slurm/usr/share/man/man1/sbatch.1.gz | tee manual

printf '%s\n' '01:00:30 60' '00:00:45 0' '#SBATCH --time=${walltime}' | diff - seen
grep -q 'A time limit of zero requests that no time limit be imposed' manual
