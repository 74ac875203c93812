#!/bin/sh
# The initial program of an isolated burst's instance: run its one job, and tell how that ended.
# The job's output is this container's log; its exit code is the container's termination message.
# This ends successfully whatever the job did, or Kubernetes would start it again.

job=/etc/fluxburst/jobspec.json
once=/mnt/flux/config/fluxburst-begun
message=/dev/termination-log

# The job has the environment that is here, as if it had been submitted here, and that which it
# takes along. What is of this instance, or of this host alone, is left out.
with_environment='
import json, os, sys
with open(sys.argv[1]) as file:
    spec = json.load(file)
system = spec.setdefault("attributes", {}).setdefault("system", {})
out = ("FLUX", "PMI", "HOSTNAME", "PWD", "OLDPWD", "SHLVL", "_")
own = {k: v.encode("utf-8", "ignore").decode() for k, v in os.environ.items()}
own = {k: v for k, v in own.items() if not k.startswith(out)}
system["environment"] = {**own, **(system.get("environment") or {})}
json.dump(spec, sys.stdout)
'

if ! mkdir "$once"; then
    printf 'interrupted' >"$message"
    exit 0
fi
if ! id=$(flux python -c "$with_environment" "$job" | flux job submit); then
    printf 'refused' >"$message"
    exit 0
fi
flux job attach "$id" </dev/null
code=$?
# A node that is lost ends a job as if it had failed: that is not its own end.
lost='type="exec" severity=0 .*note="node failure on'
if [ "$code" -ne 0 ] && flux job eventlog "$id" | grep -q "$lost"; then
    printf 'node-lost' >"$message"
    exit 0
fi
printf 'exit-code %d' "$code" >"$message"
