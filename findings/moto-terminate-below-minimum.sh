#!/usr/bin/env bash
# moto 5.2.5: terminate_instance_in_auto_scaling_group with ShouldDecrementDesiredCapacity takes a
# group of two, whose minimum is two, down to one. Auto Scaling refuses that with a ValidationError,
# since it "will violate group's min size constraint". Code that forgets to lower the minimum first
# passes its tests, and ends no machine at AWS.
#
# Seen: minimum 2, desired 1, instances 1
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

python3 -m venv venv
venv/bin/pip install --quiet 'moto[ec2,autoscaling]==5.2.5' boto3==1.43.11 2>pip.log
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1
venv/bin/python - >seen <<'PYTHON'
import boto3
from moto import mock_aws

with mock_aws():
    ec2, scaling = boto3.client("ec2"), boto3.client("autoscaling")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    scaling.create_launch_configuration(
        LaunchConfigurationName="l", ImageId=image, InstanceType="c5.large"
    )
    scaling.create_auto_scaling_group(
        AutoScalingGroupName="g",
        LaunchConfigurationName="l",
        MinSize=2,
        MaxSize=4,
        DesiredCapacity=2,
        VPCZoneIdentifier=subnet,
    )

    def group():
        return scaling.describe_auto_scaling_groups()["AutoScalingGroups"][0]

    scaling.terminate_instance_in_auto_scaling_group(
        InstanceId=group()["Instances"][0]["InstanceId"], ShouldDecrementDesiredCapacity=True
    )
    left = group()
    print("minimum", left["MinSize"], "desired", left["DesiredCapacity"], end=" ")
    print("instances", len(left["Instances"]))
PYTHON
cat seen

grep -qx 'minimum 2 desired 1 instances 1' seen
