"""Turning what an S3 client reports into an error that names bucket, key, endpoint, likely cause and remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

from slipway.errors import ObjectMissingError, StorageError
from slipway.storage.causes import find_cause, find_code
from slipway.storage.uri import S3Location


class PassingStorageError(StorageError):
    """What failed may well succeed later without a change to settings: the server starts, or the connection broke."""


@contextmanager
def explained(endpoint: str, location: S3Location, action: str) -> Iterator[None]:
    """Explain the errors of obstore.

    Raises:
        ObjectMissingError: the store answered that the key does not exist.
        StorageError: anything else that it reports.
    """
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        raise explain(str(error), endpoint, location, action) from error


def explain(text: str, endpoint: str, location: S3Location, action: str) -> StorageError:
    """The error to raise for a client's message."""
    where = f"bucket {location.bucket!r}, key {location.key!r}, endpoint {endpoint}"
    if find_code(text) == "NoSuchKey":
        return ObjectMissingError(f"There is no {location.uri} ({where}).")
    cause = find_cause(text).fill(endpoint=endpoint, bucket=location.bucket)
    message = f"{action} {location.uri} failed: {cause.reason} ({where}). {cause.remedy}"
    return PassingStorageError(message) if cause.passing else StorageError(message)
