"""Authentication tokens for EKS clusters: a signed request to STS, as text.

The API server passes it to aws-iam-authenticator, which sends the request with the name of its own
cluster as the header ``x-k8s-aws-id``: so the token is valid for that cluster only. See
https://github.com/kubernetes-sigs/aws-iam-authenticator#api-authorization-from-outside-a-cluster,
which also says that a token is valid for 15 minutes after signing, whatever its own expiry, which
may not exceed 15 minutes.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import NoCredentialsError
from botocore.signers import RequestSigner

if TYPE_CHECKING:
    import boto3

PREFIX = "k8s-aws-v1."
CLUSTER_HEADER = "x-k8s-aws-id"
SIGNED_SECONDS = 60
"""As in the aws command; the server tolerates clock differences."""

GOOD_SECONDS = 14 * 60.0
"""How long a token is used: one minute less than its validity."""


@dataclass(frozen=True, repr=False)
class Token:
    """A token, and its expiry for our use, in seconds since the epoch."""

    text: str
    until: float


def sign(session: boto3.Session, region: str, cluster: str) -> Token:
    """Return a token for a cluster; only the source of the credentials is contacted.

    Args:
        session: Provides the credentials for signing.
        region: The region whose STS the API server contacts.
        cluster: The cluster's name.

    Raises:
        NoCredentialsError: if there are none.
    """
    credentials = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    now = time.time()
    client = session.client("sts", region_name=region)
    try:
        signer = RequestSigner(
            client.meta.service_model.service_id,
            region,
            "sts",
            "v4",
            credentials,
            session.events,
        )
        request = {
            "method": "GET",
            "url": f"{client.meta.endpoint_url}/?Action=GetCallerIdentity&Version=2011-06-15",
            "body": {},
            "headers": {CLUSTER_HEADER: cluster},
            "context": {},
        }
        url = signer.generate_presigned_url(
            request, region_name=region, expires_in=SIGNED_SECONDS, operation_name=""
        )
    finally:
        client.close()
    text = base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")
    return Token(f"{PREFIX}{text}", now + GOOD_SECONDS)
