"""The client of one bucket, with bounds on all that it waits for."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from slipway.errors import StorageError
from slipway.settings import Settings

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Store

_NUM_RETRIES = 10
_FIRST_BACKOFF_SECONDS = 0.2
_LONGEST_BACKOFF_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long a transfer may take, from its parts to the whole."""

    connect_seconds: float = 5.0
    request_seconds: float = 60.0
    """For one request with its body, which is at most a few parts of a file."""
    retry_seconds: float = 150.0
    """After which a request that keeps failing is not repeated: until then up to 10 times, 0.2 to 5 s apart. Longer than two
    requests: one that gets no answer counts from its beginning, and is to be tried again as well."""
    transfer_seconds: float = 3600.0
    """For one call, however many files it moves. What a request has begun by then it may end."""


def open_bucket(settings: Settings, bucket: str, limits: Limits) -> "S3Store":
    """A client for one bucket: path-style addresses, plain http where the endpoint says so.

    Raises:
        StorageError: obstore is not installed, or no usable endpoint is set.
    """
    endpoint = settings.s3_endpoint.rstrip("/")
    if not endpoint:
        raise StorageError(
            f"s3://{bucket} cannot be reached: no S3 endpoint is set. Set AWS_ENDPOINT_URL=http://HOST:9000, "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if not endpoint.startswith(("http://", "https://")):
        raise StorageError(f"AWS_ENDPOINT_URL is {endpoint!r}; it begins with http:// or https://, such as http://{endpoint}.")
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise StorageError(f"obstore cannot be imported ({error}). Install it: pip install 'slipway[storage]'.") from error
    config: S3Config = {
        "aws_endpoint_url_s3": endpoint,
        "region": settings.s3_region,
        "virtual_hosted_style_request": False,
        "unsigned_payload": endpoint.startswith("https://"),  # TLS already sees to it that nothing is altered on its way
    }
    if settings.s3_access_key:  # else obstore looks for a pod's or a machine's role
        config |= {"access_key_id": settings.s3_access_key, "secret_access_key": settings.s3_secret_key}
    if settings.s3_session_token:
        config |= {"session_token": settings.s3_session_token}
    return S3Store(
        bucket, config=config, client_options=_client_options(settings, endpoint, limits), retry_config=_retry_config(limits)
    )


def _client_options(settings: Settings, endpoint: str, limits: Limits) -> "ClientConfig":
    options: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=limits.connect_seconds),
        "timeout": timedelta(seconds=limits.request_seconds),
    }
    if settings.s3_ca_file is not None:
        try:
            options["root_certificate"] = settings.s3_ca_file.read_bytes()
        except OSError as error:
            raise StorageError(f"AWS_CA_BUNDLE is {settings.s3_ca_file}, which cannot be read ({error.strerror}).") from error
    return options


def _retry_config(limits: Limits) -> "RetryConfig":
    return {
        "max_retries": _NUM_RETRIES,
        "retry_timeout": timedelta(seconds=limits.retry_seconds),
        "backoff": {
            "init_backoff": timedelta(seconds=_FIRST_BACKOFF_SECONDS),
            "max_backoff": timedelta(seconds=_LONGEST_BACKOFF_SECONDS),
            "base": 2,
        },
    }
