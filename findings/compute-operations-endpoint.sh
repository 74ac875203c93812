#!/usr/bin/env bash
# google-cloud-compute 1.57.0: a client made with an api_endpoint of its own (a private endpoint, an
# emulator) sends its requests there. The operation that insert() returns is polled by another
# client, which is made inside with the public endpoint: result() waits at
# compute.googleapis.com, whatever was set. insert_unary() and a ZoneOperationsClient with the same
# options stay at one address.
#
# Seen: requests to http://127.0.0.1:1, operations at https://compute.googleapis.com
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

python3 -m venv venv
venv/bin/pip install --quiet google-cloud-compute==1.57.0 2>pip.log
venv/bin/python -W ignore - >seen <<'PYTHON'
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

options = {"api_endpoint": "http://127.0.0.1:1"}
client = compute_v1.InstancesClient(credentials=AnonymousCredentials(), client_options=options)
print("requests:", client.transport._host)
print("operations:", client.transport._zone_operations_client.transport._host)
PYTHON
cat seen

grep -qx 'requests: http://127.0.0.1:1' seen
grep -qx 'operations: https://compute.googleapis.com' seen
