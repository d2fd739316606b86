"""CloudFront: has no tags, and is told the paths.

https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_CreateInvalidation.html
"""

from __future__ import annotations

import secrets
from importlib import import_module
from typing import Any
from urllib.parse import quote

from thumbproxy.caches.base import Scope
from thumbproxy.core.errors import PurgeFailed

# As in our URLs (urls.py): it is the path as clients ask for it. An asterisk stands for anything
# only where it is the last character.
_SAFE = "/~-._!$'()*,;=:@"


class CloudFront:
    """A distribution of CloudFront's. Credentials are found as botocore does: in the environment,
    in ~/.aws, or as the role of the machine.

    distribution  its id
    prefix        where thumbnails live in the distribution, like "/thumb/"
    endpoint      "" for Amazon's own

    Raises ImportError without botocore, which is an extra.
    """

    name = "cloudfront"

    def __init__(self, distribution: str, *, prefix: str, endpoint: str = "") -> None:
        self._distribution = distribution
        self._prefix = prefix.rstrip("/") + "/"
        # Neither botocore nor what it needs has annotations.
        self._session: Any = import_module("botocore.session")
        config: Any = import_module("botocore.config")
        errors: Any = import_module("botocore.exceptions")
        self._failures = errors.BotoCoreError, errors.ClientError
        self._options = {
            # The service is global and lives there.
            "region_name": "us-east-1",
            "endpoint_url": endpoint or None,
            "config": config.Config(
                connect_timeout=3, read_timeout=10, retries={"max_attempts": 3, "mode": "standard"}
            ),
        }

    def purge(self, scope: Scope) -> None:
        paths = [self._path(one) for one in scope.spellings()]
        try:
            # Threads may share a client but not make one in the same session; purges are rare.
            client = self._session.Session().create_client("cloudfront", **self._options)
            try:
                client.create_invalidation(
                    DistributionId=self._distribution,
                    InvalidationBatch={
                        "Paths": {"Quantity": len(paths), "Items": paths},
                        # What has been said before is not done again.
                        "CallerReference": f"thumbproxy-{secrets.token_hex(8)}",
                    },
                )
            finally:
                client.close()
        except self._failures as error:
            raise PurgeFailed(f"{self.name}: {_why(error)}") from error

    def _path(self, scope: Scope) -> str:
        below = f"{scope.text}/" if scope.kind == "source" else scope.text
        return f"{quote(self._prefix + below, safe=_SAFE)}*"


def _why(error: Exception) -> str:
    """Amazon's code for it; the text of other errors may hold what was signed."""
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):
        return str(answer.get("Error", {}).get("Code", "refused"))
    return type(error).__name__
