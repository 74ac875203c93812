#!/usr/bin/env bash
# moto 5.2.5: describe_spot_price_history asked for the product "Linux/UNIX" answers with prices of
# another, "Linux/UNIX (Amazon VPC)", as it heeds no filter by product; each price is 0.00001 and of
# 2006. EC2 gives prices of the product that was asked for, and of now. A program that picks the
# cheapest type by spot price takes any type for as good as free.
#
# Seen: {'Linux/UNIX (Amazon VPC)'} {'0.00001'} 2006
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
    prices = boto3.client("ec2").describe_spot_price_history(
        InstanceTypes=["c5.large", "p4d.24xlarge"], ProductDescriptions=["Linux/UNIX"]
    )["SpotPriceHistory"]
    print({price["ProductDescription"] for price in prices}, end=" ")
    print({price["SpotPrice"] for price in prices}, prices[0]["Timestamp"].year)
PYTHON
cat seen

grep -qxF "{'Linux/UNIX (Amazon VPC)'} {'0.00001'} 2006" seen
