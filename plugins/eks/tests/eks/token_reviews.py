"""What stands between an EKS cluster's API server and STS: it checks tokens as EKS does.

It answers TokenReviews (https://kubernetes.io/docs/reference/access-authn-authz/authentication/,
webhook token authentication) as aws-iam-authenticator does, but checks the signature itself, where
that would ask STS, which knows the secret key: by AWS Signature Version 4 as documented in
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import yaml
from tests.kubernetes.servers import Reply, serving

GOOD = timedelta(minutes=15)


@dataclass
class TokenReviews:
    """Who is let in, and what was refused.

    Attributes:
        cluster: The cluster's name.
        secrets: The secret key of each access key.
        users: The user of Kubernetes that each access key is, with its groups.
        refused: Why tokens were refused.
        seen: The tokens that were let in.
    """

    cluster: str
    secrets: Mapping[str, str]
    users: Mapping[str, tuple[str, list[str]]]
    refused: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def __call__(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer a TokenReview."""
        review = json.loads(body)
        token = review["spec"]["token"]
        try:
            user, groups = self.users[self.check(token)]
            status = {"authenticated": True, "user": {"username": user, "groups": groups}}
            self.seen.append(token)
        except (KeyError, ValueError) as error:
            self.refused.append(str(error))
            status = {"authenticated": False, "error": str(error)}
        answer = {"apiVersion": review["apiVersion"], "kind": "TokenReview", "status": status}
        return 200, json.dumps(answer).encode(), {"Content-Type": "application/json"}

    def check(self, token: str) -> str:
        """Return the access key that a token was signed with.

        Raises:
            ValueError: if it is no token, is not of this cluster, is too old, or was changed.
        """
        kind, _, text = token.partition(".")
        if kind != "k8s-aws-v1":
            raise ValueError("no token of EKS")
        url = urlsplit(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        host = url.hostname or ""
        if url.scheme != "https" or not (
            host.startswith("sts.") and host.endswith("amazonaws.com")
        ):
            raise ValueError(f"not to be asked of STS, but of {host}")
        if (query["Action"], query["X-Amz-SignedHeaders"]) != (
            "GetCallerIdentity",
            "host;x-k8s-aws-id",
        ):
            raise ValueError("not who somebody is, for a cluster")
        signed = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(
            tzinfo=timezone.utc
        )
        if datetime.now(timezone.utc) - signed > GOOD or int(query["X-Amz-Expires"]) > 900:
            raise ValueError("too old, or good for too long")
        key = query["X-Amz-Credential"].partition("/")[0]
        if not hmac.compare_digest(self._signature(host, query), query["X-Amz-Signature"]):
            raise ValueError("signed with another key, or for another cluster")
        return key

    def _signature(self, host: str, query: Mapping[str, str]) -> str:
        key, *scope = query["X-Amz-Credential"].split("/")
        pairs = sorted((k, v) for k, v in query.items() if k != "X-Amz-Signature")
        asked = "\n".join(
            [
                "GET",
                "/",
                "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in pairs),
                f"host:{host}",
                f"x-k8s-aws-id:{self.cluster}",
                "",
                query["X-Amz-SignedHeaders"],
                hashlib.sha256(b"").hexdigest(),
            ]
        )
        digest = hashlib.sha256(asked.encode()).hexdigest()
        text = "\n".join(["AWS4-HMAC-SHA256", query["X-Amz-Date"], "/".join(scope), digest])
        signing = f"AWS4{self.secrets[key]}".encode()
        for part in (*scope, text):
            signing = hmac.new(signing, part.encode(), hashlib.sha256).digest()
        return signing.hex()


@contextmanager
def reviewing(reviews: TokenReviews, directory: Path) -> Iterator[list[str]]:
    """Serve TokenReviews; yield the options by which an API server asks for them."""
    with serving(reviews) as url:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "reviews", "cluster": {"server": f"{url}/review"}}],
            "users": [{"name": "api-server", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "reviews", "user": "api-server"}}],
            "current-context": "c",
        }
        path = directory / "reviews.yaml"
        path.write_text(yaml.safe_dump(config))
        yield [
            f"--authentication-token-webhook-config-file={path}",
            "--authentication-token-webhook-cache-ttl=1s",
        ]
