#!/usr/bin/env bash
# binpacking 2.0.1, to_constant_volume: items of 6, 5, 4, 3 and 2 fit into two bins of 10 (6+4 and
# 5+3+2), and first-fit decreasing finds that. It answers three. And an item above the volume gets
# a bin of its own that is overfull, without an error. So a count of machines by it may be too high,
# and what cannot run anywhere is counted as placed.
#
# Seen: [[6, 3], [5, 4], [2]] and [[11], [3]]
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

python3 -m venv venv
venv/bin/pip install --quiet binpacking==2.0.1 2>pip.log
venv/bin/python - >seen <<'PYTHON'
import binpacking

print(binpacking.to_constant_volume([6, 5, 4, 3, 2], 10))
print(binpacking.to_constant_volume([11, 3], 10))
PYTHON
cat seen

grep -qx '\[\[6, 3\], \[5, 4\], \[2\]\]' seen
grep -qx '\[\[11\], \[3\]\]' seen
