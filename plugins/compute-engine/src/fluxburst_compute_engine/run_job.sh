#!/bin/sh
# What the first node of an isolated burst does in the instance that its brokers make: it runs one
# job, once, prints its output to the serial port, each line marked, and tells how it ended by guest
# attributes (https://cloud.google.com/compute/docs/metadata/manage-guest-attributes).
#
# Its arguments are the flux command and the directory of the jobspec; and "ended" where it is run
# once more, by systemd, when the broker has ended: it then tells what has not been told.
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
        tell reason 'the machine had no memory left, and the kernel killed what ran there'
        tell exit-code 137
    else
        how="${SERVICE_RESULT:-unknown}, ${EXIT_CODE:-} ${EXIT_STATUS:-}"
        tell broken "its broker ended before its job did ($how)"
    fi
    exit 0
fi

if [ -e "$home/started" ]; then
    tell broken 'the machine was started again while its job ran'
    exit 1
fi
: >"$home/started"

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
if ! id=$("$flux" python -c "$with_environment" "$home/job.json" | "$flux" job submit); then
    tell broken 'the job was not accepted; the serial port says why'
    exit 1
fi
{ "$flux" job wait-event "$id" start >/dev/null 2>&1 && tell state running; } &
{
    "$flux" job attach "$id" 2>&1
    echo $? >"$home/exit-code"
} | sed 's/^/fluxburst| /'
# A node that is lost ends a job as if it had failed: that is not its own end.
lost='type="exec" severity=0 .*note="node failure on'
if [ "$(cat "$home/exit-code")" != 0 ] && "$flux" job eventlog "$id" | grep -q "$lost"; then
    rm "$home/exit-code"
    tell broken 'a node of its instance was lost while its job ran' && : >"$home/told"
    exit 0
fi
tell exit-code "$(cat "$home/exit-code")" && : >"$home/told"
