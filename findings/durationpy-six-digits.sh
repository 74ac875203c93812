#!/usr/bin/env bash
# durationpy 0.11 (which the official Kubernetes client depends on) writes a timedelta as a Go
# duration with six significant digits of its seconds. So 33.618521 s becomes 33.6185s, and what is
# read back is another duration. Go itself writes all nanoseconds. Who compares a lease or timeout
# that was written with the one that was asked for finds them different.
#
# Seen: 76h37m33.6185s, and back: 3 days, 4:37:33.618500
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

python3 -m venv venv
venv/bin/pip install --quiet durationpy==0.11 2>pip.log
venv/bin/python - >seen <<'PYTHON'
from datetime import timedelta

import durationpy

asked = timedelta(days=3, hours=4, minutes=37, seconds=33, microseconds=618521)
text = durationpy.to_str(asked)
print(asked)
print(text)
print(durationpy.from_str(text))
PYTHON
cat seen

printf '%s\n' '3 days, 4:37:33.618521' 76h37m33.6185s '3 days, 4:37:33.618500' | diff - seen
