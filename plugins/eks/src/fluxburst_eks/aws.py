"""AWS as the plugin talks to it: one place that asks, waits when told to, and types what fails.

This is the one module that imports boto3, and it is only imported once AWS is needed.
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
"""Where the Price List API is; it knows the prices of all regions."""

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
    "they are looked for in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in the profile of ~/.aws "
    "(the parameter profile, AWS_PROFILE or default; after aws configure or aws sso login), and at "
    "the role of this container or instance"
)


class Aws:
    """One account and region, with the credentials that boto3's own chain finds.

    Clients are made when they are first needed, and may be used by several threads.

    Args:
        region: The region; None for that of the profile or the environment.
        profile: A profile of ``~/.aws/config``; None for the default chain.
        endpoint_url: Where all services are asked instead of AWS, for tests.
        timeout: How many seconds AWS may take to answer.
        patience: For how many seconds to go on asking when it is too busy.
        poll: How often, in seconds, to look while waiting for something.
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
        # What is asked again, and when, is decided in one place: below.
        self._config = Config(
            connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 1}
        )

    @property
    def region(self) -> str:
        """The region.

        Raises:
            ConfigError: if none is named, here or in the profile or the environment.
        """
        region: str | None = self._session.region_name
        if not region:
            raise ConfigError("region", "is not set, nor is AWS_DEFAULT_REGION, nor in the profile")
        return region

    @property
    def origin(self) -> str:
        """Where the credentials are from, as boto3 calls it; empty for none."""
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
        """Subnets, what zones offer, and prices of the spot market."""
        client: EC2Client = self._client("ec2", self.region)
        return client

    @property
    def sts(self) -> STSClient:
        """Who these credentials are."""
        client: STSClient = self._client("sts", self.region)
        return client

    @property
    def iam(self) -> IAMClient:
        """What they may do."""
        client: IAMClient = self._client("iam", self.region)
        return client

    @property
    def pricing(self) -> PricingClient:
        """The list of prices."""
        client: PricingClient = self._client("pricing", PRICING_REGION)
        return client

    def _client(self, service: Any, region: str) -> Any:
        with self._making:  # clients may be used by several threads, sessions may not
            if service not in self._clients:
                self._clients[service] = self._session.client(
                    service, region_name=region, endpoint_url=self._endpoint, config=self._config
                )
            return self._clients[service]

    def close(self) -> None:
        """Close the connections of all clients that were made."""
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
        """Look until there is an answer.

        Args:
            what: What is waited for, such as ``the node group x to be active``.
            observe: Asks once; None for not yet.
            seconds: How long to wait.

        Raises:
            BurstError: if it has not come to be so in time.
        """
        until = time.monotonic() + seconds
        while (found := observe()) is None:
            if time.monotonic() + self.poll > until:
                raise BurstError(f"waited {format_duration(seconds)} in vain for {what}")
            time.sleep(self.poll)
        return found

    def ask(self, doing: str, call: Callable[[], T]) -> T:
        """Ask AWS, again while it is too busy: after the pause that it names, or twice the last.

        Args:
            doing: What it is asked, such as ``create the node group x``.
            call: Asks once.

        Raises:
            BurstError: or one of its kinds, for what it answers.
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
                problem = f"there are no credentials of AWS to {doing} with ({error}): {WHERE}"
                raise AuthError(problem) from error
            except BotoCoreError as error:
                raise UnreachableError(f"AWS cannot be asked to {doing}: {error}") from error
