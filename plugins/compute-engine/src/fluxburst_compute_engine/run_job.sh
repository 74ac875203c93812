#!/bin/sh
# Initial program of an isolated burst's instance, on its first node: runs one job, once, prints its
# output to the serial port, with a mark on each line, and reports its end by guest
# attributes (https://cloud.google.com/compute/docs/metadata/manage-guest-attributes).
#
# Its arguments are the flux command and the directory of the jobspec; and "ended" when systemd runs
# it again after the broker's end: then it reports what has not been reported yet.
set -u
flux=$1
home=$2
metadata=${FLUXBURST_METADATA:-http://metadata.google.internal/computeMetadata/v1/instance}

tell() {
    curl -fsS --retry 5 -X PUT -H 'Metadata-Flavor: Google' --data "$2" \
        "$metadata/guest-attributes/fluxburst/$1" >/dev/null
}

if [ "${3:-}" = ended ]; then
    if [ -e "$home/told" ]; then
        exit 0
    elif [ -s "$home/exit-code" ]; then
        tell exit-code "$(cat "$home/exit-code")"
    elif [ "${SERVICE_RESULT:-}" = oom-kill ] || # systemd.exec(5)
        dmesg 2>/dev/null | grep -q 'Out of memory: Killed process'; then
        tell reason 'the machine ran out of memory, and the kernel killed its processes'
        tell exit-code 137
    else
        how="${SERVICE_RESULT:-unknown}, ${EXIT_CODE:-} ${EXIT_STATUS:-}"
        tell broken "its broker ended before its job did ($how)"
    fi
    exit 0
fi

if [ -e "$home/started" ]; then
    tell broken 'the machine restarted while its job ran'
    exit 1
fi
: >"$home/started"

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
if ! id=$("$flux" python -c "$with_environment" "$home/job.json" | "$flux" job submit); then
    tell broken 'its instance rejected the job; see the serial port'
    exit 1
fi
{ "$flux" job wait-event "$id" start >/dev/null 2>&1 && tell state running; } &
{
    "$flux" job attach "$id" 2>&1
    echo $? >"$home/exit-code"
} | sed 's/^/fluxburst| /'
# A lost node ends a job as a failure, which is not the job's own end.
lost='type="exec" severity=0 .*note="node failure on'
if [ "$(cat "$home/exit-code")" != 0 ] && "$flux" job eventlog "$id" | grep -q "$lost"; then
    rm "$home/exit-code"
    tell broken 'a node of its instance was lost while its job ran' && : >"$home/told"
    exit 0
fi
tell exit-code "$(cat "$home/exit-code")" && : >"$home/told"
