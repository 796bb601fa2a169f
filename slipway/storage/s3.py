"""Fetching from an S3 endpoint."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from slipway.errors import StorageError
from slipway.settings import Settings

if TYPE_CHECKING:
    from minio import Minio

_TIMEOUT_SECONDS = 60.0
_NUM_RETRIES = 3


def download_folder(settings: Settings, uri: str, target: Path) -> None:
    """Fetch all objects below `uri` (s3://BUCKET/FOLDER, with or without a slash at its end) into the folder `target`.

    Raises:
        StorageError: the endpoint is not set or does not answer, or there is nothing below `uri`.
    """
    import urllib3
    from minio.error import MinioException

    parts = urlsplit(uri)
    prefix = parts.path.strip("/") + "/"  # without the slash, siblings whose names begin alike come too
    try:
        client = _connect(settings)
        names = [item.object_name or "" for item in client.list_objects(parts.netloc, prefix, recursive=True)]
        for name in names:
            relative = PurePosixPath(name.removeprefix(prefix))
            if ".." in relative.parts:
                raise StorageError(f"{uri} holds an object named {name!r}, which would lie outside of it.")
            client.fget_object(parts.netloc, name, str(target / relative))
    except (MinioException, urllib3.exceptions.HTTPError) as error:
        raise StorageError(
            f"{uri} cannot be fetched from {settings.s3_endpoint}: {error}. `slipway doctor` checks S3."
        ) from error
    if not names:
        raise StorageError(f"{uri} holds nothing.")


def _connect(settings: Settings) -> "Minio":
    import urllib3
    from minio import Minio

    if not settings.s3_endpoint:
        raise StorageError("No S3 endpoint is set. Set AWS_ENDPOINT_URL=http://HOST:9000 and the AWS_ credentials.")
    parts = urlsplit(settings.s3_endpoint)
    return Minio(
        endpoint=parts.netloc,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        secure=parts.scheme == "https",
        region="us-east-1",  # otherwise it is asked for first
        http_client=urllib3.PoolManager(
            timeout=_TIMEOUT_SECONDS,
            retries=urllib3.Retry(total=_NUM_RETRIES, backoff_factor=0.2, status_forcelist=(500, 502, 503)),
        ),
    )
