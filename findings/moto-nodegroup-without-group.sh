#!/usr/bin/env bash
# moto 5.2.5: an EKS node group names the Auto Scaling group that its machines are in, as EKS does.
# Of that name there is no Auto Scaling group, and there are no instances: the two services of moto
# do not know of each other. What ends single machines of a node group, as cluster-autoscaler does,
# finds nothing to end.
#
# Seen: ACTIVE, 3 nodes wanted, 1 group named; 0 groups, 0 instances
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

python3 -m venv venv
venv/bin/pip install --quiet 'moto[ec2,eks,autoscaling]==5.2.5' boto3==1.43.11 2>pip.log
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1
venv/bin/python - >seen <<'PYTHON'
import boto3
from moto import mock_aws

role = "arn:aws:iam::123456789012:role/test"
with mock_aws():
    ec2, eks = boto3.client("ec2"), boto3.client("eks")
    subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"][:2]]
    eks.create_cluster(name="c", roleArn=role, resourcesVpcConfig={"subnetIds": subnets})
    group = eks.create_nodegroup(
        clusterName="c",
        nodegroupName="n",
        subnets=subnets,
        nodeRole=role,
        scalingConfig={"minSize": 0, "maxSize": 4, "desiredSize": 3},
    )["nodegroup"]
    named = [one["name"] for one in group["resources"]["autoScalingGroups"]]
    print(group["status"], group["scalingConfig"]["desiredSize"], len(named))
    found = boto3.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    print(len(found), len(ec2.describe_instances()["Reservations"]))
PYTHON
cat seen

printf '%s\n' 'ACTIVE 3 1' '0 0' | diff - seen
