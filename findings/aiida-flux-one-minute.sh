#!/usr/bin/env bash
# aiida-flux-scheduler 0.1.0 writes a wallclock limit of up to 60 seconds as a bare number,
# `#flux: -t 60`. Flux reads a bare number of --time-limit as minutes (flux-batch(1): MINUTES|FSD),
# so the job may run an hour. Longer limits are rounded to two digits, also down: 90000 s becomes
# 1.04d, which is 89856 s, and the job is ended 144 s early.
#
# Seen with aiida-core 2.6.4: 60 -> -t 60, 61 -> -t 1.02m, 90000 -> -t 1.04d
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
export HOME=$scratch # AiiDA makes its configuration there

python3 -m venv venv
venv/bin/pip install --quiet aiida-flux-scheduler==0.1.0 aiida-core==2.6.4 2>pip.log
venv/bin/python -W ignore - >seen <<'PYTHON'
from aiida.schedulers.datastructures import JobTemplate
from aiida_flux_scheduler.flux import FluxScheduler

scheduler = FluxScheduler()
for seconds in (60, 61, 90000):
    job = JobTemplate()
    job.job_resource = scheduler.create_job_resource(num_machines=1, num_mpiprocs_per_machine=1)
    job.max_wallclock_seconds = seconds
    print(seconds, scheduler._get_submit_script_header(job).splitlines()[-1])
PYTHON
cat seen

printf '%s\n' '60 #flux: -t 60' '61 #flux: -t 1.02m' '90000 #flux: -t 1.04d' | diff - seen
