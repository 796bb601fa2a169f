"""The `minio` SDK, for what obstore does not do: listing, making and configuring buckets, on any S3 server."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from slipway.errors import StorageError
from slipway.settings import Settings

if TYPE_CHECKING:
    from minio import Minio


class SdkError(Exception):
    """A request failed; the message is one that `causes` understands."""

    def __init__(self, text: str, *, code: str = "", status: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.status = status


def open_client(settings: Settings, *, timeout_seconds: float) -> "Minio":
    """A client that tries each request once.

    Raises:
        StorageError: no endpoint is set, or the SDK is not installed.
    """
    parts = urlsplit(settings.s3_endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise StorageError(
            f"AWS_ENDPOINT_URL is {settings.s3_endpoint!r}. Set it to http://HOST:9000 or https://HOST, and the AWS_ credentials."
        )
    try:
        import urllib3
        from minio import Minio
    except ImportError as error:
        raise StorageError(f"The S3 client cannot be imported ({error}). Install it: pip install 'slipway[storage]'.") from error
    context = ssl.create_default_context()
    if settings.s3_ca_file is not None:
        context.load_verify_locations(settings.s3_ca_file)
    return Minio(
        endpoint=parts.netloc,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        session_token=settings.s3_session_token or None,
        secure=parts.scheme == "https",
        region=settings.s3_region,  # otherwise it is asked for first
        http_client=urllib3.PoolManager(timeout=timeout_seconds, retries=False, ssl_context=context),
    )


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what the SDK raises into SdkError."""
    import urllib3
    from minio.error import MinioException, S3Error

    try:
        yield
    except S3Error as error:
        text = f"<Code>{error.code}</Code><Message>{error.message}</Message>"
        raise SdkError(text, code=str(error.code), status=error.response.status) from error
    except (MinioException, urllib3.exceptions.HTTPError) as error:
        raise SdkError(str(error)) from error
    except (SyntaxError, ValueError) as error:  # an answer that is no XML, or not S3's
        raise SdkError(f"no S3 answer ({error}), status code: {HTTPStatus.NOT_FOUND.value}") from error
