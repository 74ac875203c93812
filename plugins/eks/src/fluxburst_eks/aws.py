"""AWS for this plugin: the one place for requests, retries, and typed errors.

This is the only module that imports boto3, and it is imported on first use.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    CredentialRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

from fluxburst.errors import AuthError, BurstError, ConfigError, UnreachableError
from fluxburst.formats.units import format_duration
from fluxburst.provider import probe
from fluxburst_eks import tokens
from fluxburst_eks.errors import answer_of, as_error

if TYPE_CHECKING:
    from types_boto3_ec2.client import EC2Client
    from types_boto3_eks.client import EKSClient
    from types_boto3_iam.client import IAMClient
    from types_boto3_pricing.client import PricingClient
    from types_boto3_sts.client import STSClient

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
PRICING_REGION = "us-east-1"
"""The region of the Price List API; it has the prices of all regions."""

_NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)


WHERE = (
    "sources are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile in ~/.aws "
    "(the parameter profile, AWS_PROFILE or default; after aws configure or aws sso login), and "
    "the role of this container or instance"
)


class Aws:
    """One account and region, with the credentials found by boto3's own chain.

    Clients are created on first use, and may be used by several threads.

    Args:
        region: The region; None for that of the profile or the environment.
        profile: A profile of ``~/.aws/config``; None for the default chain.
        endpoint_url: URL for all services instead of AWS, for tests.
        timeout: How many seconds AWS may take to answer.
        patience: How many seconds to retry while AWS is too busy.
        poll: Polling interval in seconds.
    """

    def __init__(
        self,
        region: str | None,
        profile: str | None,
        endpoint_url: str | None,
        *,
        timeout: float,
        patience: float,
        poll: float,
    ) -> None:
        try:
            self._session = boto3.Session(profile_name=profile, region_name=region)
        except (ProfileNotFound, ConfigParseError) as error:
            raise ConfigError("profile", str(error)) from error
        self._endpoint = endpoint_url
        self._making = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._patience = patience
        self.poll = poll
        # Retries are decided in one place: below.
        self._config = Config(
            connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 1}
        )

    @property
    def region(self) -> str:
        """The region.

        Raises:
            ConfigError: if it is set neither here nor in the profile or the environment.
        """
        region: str | None = self._session.region_name
        if not region:
            raise ConfigError("region", "is not set, nor is AWS_DEFAULT_REGION, nor in the profile")
        return region

    @property
    def origin(self) -> str:
        """Source of the credentials, in boto3's words; empty for none."""
        with self._making:
            credentials = self._session.get_credentials()
        return "" if credentials is None else str(credentials.method)

    @property
    def eks(self) -> EKSClient:
        """Clusters and node groups."""
        client: EKSClient = self._client("eks", self.region)
        return client

    @property
    def ec2(self) -> EC2Client:
        """Subnets, offers of zones, and spot prices."""
        client: EC2Client = self._client("ec2", self.region)
        return client

    @property
    def sts(self) -> STSClient:
        """The identity of these credentials."""
        client: STSClient = self._client("sts", self.region)
        return client

    @property
    def iam(self) -> IAMClient:
        """Their permissions."""
        client: IAMClient = self._client("iam", self.region)
        return client

    @property
    def pricing(self) -> PricingClient:
        """The list of prices."""
        client: PricingClient = self._client("pricing", PRICING_REGION)
        return client

    def _client(self, service: Any, region: str) -> Any:
        with self._making:  # several threads may use clients, but not sessions
            if service not in self._clients:
                self._clients[service] = self._session.client(
                    service, region_name=region, endpoint_url=self._endpoint, config=self._config
                )
            return self._clients[service]

    def close(self) -> None:
        """Close the connections of all clients."""
        with self._making:
            clients = [self._clients.pop(name) for name in list(self._clients)]
        for client in clients:
            client.close()

    def token(self, cluster: str) -> tokens.Token:
        """Return a token for a cluster's API server.

        Raises:
            AuthError: if there are no credentials.
        """

        def sign() -> tokens.Token:
            with self._making:
                return tokens.sign(self._session, self.region, cluster)

        return self.ask(f"sign a token for the cluster {cluster}", sign)

    def wait(self, what: str, observe: Callable[[], T | None], seconds: float) -> T:
        """Poll until there is a result.

        Args:
            what: The condition, such as ``the node group x to be active``.
            observe: Asks once; None for not yet.
            seconds: How long to wait.

        Raises:
            BurstError: on timeout.
        """
        until = time.monotonic() + seconds
        while (found := observe()) is None:
            if time.monotonic() + self.poll > until:
                raise BurstError(f"timed out after {format_duration(seconds)} waiting for {what}")
            time.sleep(self.poll)
        return found

    def ask(self, doing: str, call: Callable[[], T]) -> T:
        """Send a request; retry while AWS is too busy, after its requested pause or a doubled one.

        Args:
            doing: The request, such as ``create the node group x``.
            call: Sends it once.

        Raises:
            BurstError: or a subclass, for AWS's error.
        """
        with probe.asked("AWS"):
            return self._answered(doing, call)

    def _answered(self, doing: str, call: Callable[[], T]) -> T:
        until = time.monotonic() + probe.patience(self._patience)
        pause = FIRST_PAUSE
        while True:
            try:
                return call()
            except ClientError as error:
                answer = answer_of(error.response)
                wait = pause if answer.retry_after is None else answer.retry_after
                if not answer.too_busy or time.monotonic() + wait > until:
                    raise as_error(answer, doing) from error
                time.sleep(min(wait, LONGEST_PAUSE))
                pause = min(2 * pause, LONGEST_PAUSE)
            except _NO_CREDENTIALS as error:
                problem = f"there are no AWS credentials to {doing} ({error}): {WHERE}"
                raise AuthError(problem) from error
            except BotoCoreError as error:
                raise UnreachableError(f"cannot reach AWS to {doing}: {error}") from error
