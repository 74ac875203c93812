#!/usr/bin/env bash
# moto 5.2.5: run_instances with the same ClientToken and the same arguments starts instances each
# time. EC2 answers with the instances of the first call: that is what the token is for. A test by
# moto that asks again after a time-out sees machines that EC2 would not have started.
#
# Seen: two calls, two instances
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

python3 -m venv venv
venv/bin/pip install --quiet 'moto[ec2]==5.2.5' boto3==1.43.11 2>pip.log
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1
venv/bin/python - >seen <<'PYTHON'
import boto3
from moto import mock_aws

with mock_aws():
    ec2 = boto3.client("ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    asked = {"ImageId": image, "InstanceType": "c5.large", "MinCount": 1, "MaxCount": 1}
    calls = [ec2.run_instances(**asked, ClientToken="one-request") for _ in range(2)]
    print(len({instance["InstanceId"] for call in calls for instance in call["Instances"]}))
PYTHON
cat seen

grep -qx 2 seen
