#!/bin/sh
# Initial program of an isolated burst's instance: runs its one job, and reports its end.
# The job's output is this container's log; its exit code is the container's termination message.
# This always exits with 0, since Kubernetes would restart it otherwise.

job=/etc/fluxburst/jobspec.json
once=/mnt/flux/config/fluxburst-begun
message=/dev/termination-log

# The job gets the local environment, as if submitted here, plus the variables passed with it,
# without variables of this instance or this host.
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
# A lost node ends a job as a failure, which is not the job's own end.
lost='type="exec" severity=0 .*note="node failure on'
if [ "$code" -ne 0 ] && flux job eventlog "$id" | grep -q "$lost"; then
    printf 'node-lost' >"$message"
    exit 0
fi
printf 'exit-code %d' "$code" >"$message"
