"""The token by which an EKS cluster knows who asks it: a signed request to STS, as text.

The API server hands it to aws-iam-authenticator, which makes the request with the name of its own
cluster as the header ``x-k8s-aws-id``: so it is good for that cluster alone. See
https://github.com/kubernetes-sigs/aws-iam-authenticator#api-authorization-from-outside-a-cluster,
which also says that a token is good for 15 minutes from the time that it was signed at, whatever it
says itself, and that it may say no more than 15 minutes.
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
"""As the aws command has it; the server allows for clocks that differ."""

GOOD_SECONDS = 14 * 60.0
"""For how long a token is used: a minute less than it is good for."""


@dataclass(frozen=True, repr=False)
class Token:
    """A token, and until when it may be used, in seconds since the epoch."""

    text: str
    until: float


def sign(session: boto3.Session, region: str, cluster: str) -> Token:
    """Return a token for a cluster; nobody is asked for it, but where the credentials come from.

    Args:
        session: Whose credentials sign it.
        region: The region, whose STS the API server asks.
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
