"""AWS request signing (Signature Version 4), with the credentials that botocore's chain finds.

Signing is pure and takes about 60 microseconds. Finding credentials may read files, call a metadata service or assume a role,
so it is done in a thread: `fresh` says whether a request can be signed now, `refresh` waits until it can. What it does not
know: which service is called, HTTP.
"""

from __future__ import annotations

import asyncio
import time
from functools import cached_property

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import BotoCoreError
from botocore.session import Session

from foundry.errors import ConfigurationError

_RECHECK_S = 60.0
"""Temporary credentials are asked for anew this often; botocore itself renews them 15 minutes before they expire."""
_RETRY_S = 10.0
"""How long a chain that found nothing is not asked again: a missing metadata service costs seconds."""
_MISSING = (
    "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or "
    "AWS_BEARER_TOKEN_BEDROCK, or give the machine a role"
)


class AwsSigner:
    """Signs requests to one service in one region."""

    def __init__(self, *, service: str, region: str, profile: str | None = None) -> None:
        self._service, self._region, self._profile = service, region, profile
        self._credentials: ReadOnlyCredentials | None = None
        self._error: ConfigurationError | None = None
        self._good_until = 0.0
        self._lock = asyncio.Lock()

    @property
    def fresh(self) -> bool:
        """Whether credentials are at hand (or are known to be missing), so that nothing need be waited for."""
        return time.monotonic() < self._good_until

    async def refresh(self) -> None:
        """Find credentials; several callers wait for one search. Raises nothing: `headers` says what is missing."""
        async with self._lock:
            if self.fresh:
                return
            await asyncio.to_thread(self._load)

    def headers(self, url: str, body: bytes) -> dict[str, str]:
        """The headers that authenticate one POST of JSON, `content-type` included as it is signed too. Raises
        ConfigurationError when no credentials were found."""
        if self._credentials is None:
            raise self._error or ConfigurationError(_MISSING, param="AWS_ACCESS_KEY_ID")
        request = AWSRequest(method="POST", url=url, data=body, headers={"content-type": "application/json"})
        SigV4Auth(self._credentials, self._service, self._region).add_auth(request)
        return {name.lower(): value for name, value in request.headers.items()}

    @cached_property
    def _source(self) -> Credentials | None:
        return Session(profile=self._profile).get_credentials()

    def _load(self) -> None:
        try:
            source = self._source
            found = source.get_frozen_credentials() if source is not None else None
        except BotoCoreError as error:
            self._fail(f"AWS credentials could not be loaded: {error}")
            return
        if found is None:
            self.__dict__.pop("_source", None)
            self._fail(_MISSING)
            return
        self._credentials, self._error = found, None
        lasting = not isinstance(source, RefreshableCredentials)
        self._good_until = float("inf") if lasting else time.monotonic() + _RECHECK_S

    def _fail(self, message: str) -> None:
        self._error = ConfigurationError(message, param="AWS_ACCESS_KEY_ID")
        self._good_until = time.monotonic() + _RETRY_S
