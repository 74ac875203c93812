#!/usr/bin/env bash
# aiida-flux-scheduler 0.1.0 asks for aiida-core ~=2.0, so pip installs it beside aiida-core 2.9.4
# without a word. There the base class of schedulers has other abstract methods, and the Flux
# scheduler cannot be made any more: the plugin is listed, and fails when it is first used.
#
# Seen: TypeError: Can't instantiate abstract class FluxScheduler with abstract methods get_jobs,
#       kill_job, submit_job
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
export HOME=$scratch # AiiDA makes its configuration there

python3 -m venv venv
venv/bin/pip install --quiet aiida-flux-scheduler==0.1.0 aiida-core==2.9.4 2>pip.log
venv/bin/pip check | tee check
venv/bin/python -W ignore - >seen 2>&1 <<'PYTHON' || true
from aiida.plugins.entry_point import get_entry_point_names

print("listed:", "flux" in " ".join(get_entry_point_names("aiida.schedulers")))
from aiida_flux_scheduler.flux import FluxScheduler

FluxScheduler()
PYTHON
tail -n 1 seen

grep -q 'No broken requirements' check
grep -qx 'listed: True' seen
grep -q "^TypeError: Can't instantiate abstract class FluxScheduler.*get_jobs" seen
