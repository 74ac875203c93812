#!/bin/sh
# The initial program of an isolated burst's instance: run its one job, and tell how that ended.
# The job's output is this container's log; its exit code is the container's termination message.
# This ends successfully whatever the job did, or Kubernetes would start it again.

job=/etc/fluxburst/jobspec.json
once=/mnt/flux/config/fluxburst-begun
message=/dev/termination-log

if ! mkdir "$once"; then
    printf 'interrupted' >"$message"
    exit 0
fi
if ! id=$(flux job submit "$job"); then
    printf 'refused' >"$message"
    exit 0
fi
flux job attach "$id" </dev/null
printf 'exit-code %d' "$?" >"$message"
