"""Where things lie: `s3://BUCKET/KEY`, or a path of this machine (plain, or as a `file://` URI).

A key stands in its URI as it is: nothing is percent-encoded, and `?` and `#` are signs like any other.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from slipway.errors import StorageError

_S3_SCHEME = "s3://"
_FILE_SCHEME = "file://"


@dataclass(frozen=True, kw_only=True)
class S3Location:
    """A bucket and a key in it, or a folder of keys: `key` has no slash at either end, and is "" for the whole bucket."""

    bucket: str
    key: str

    @property
    def uri(self) -> str:
        """The location as a URI, without a slash at its end."""
        return f"{_S3_SCHEME}{self.bucket}/{self.key}".rstrip("/")

    @property
    def prefix(self) -> str:
        """What the keys of all that lies in this folder begin with; it ends in a slash, so no sibling shares it."""
        return f"{self.key}/" if self.key else ""


def is_remote(uri: str | Path) -> bool:
    """Whether `uri` lies in an object store, not on this machine's disk."""
    return str(uri).startswith(_S3_SCHEME)


def join_uri(uri: str | Path, *names: str) -> str:
    """The URI of what lies at `names` below `uri`; slashes where they meet are not doubled."""
    return "/".join([str(uri).rstrip("/"), *(name.strip("/") for name in names if name.strip("/"))]) or "/"


def parent_uri(uri: str | Path) -> str:
    """The folder that `uri` lies in; of a local URI its path.

    Raises:
        StorageError: `uri` is a bucket or the root folder.
    """
    if is_remote(uri):
        location = parse_s3(str(uri))
        if location.key:
            return S3Location(bucket=location.bucket, key=location.key.rpartition("/")[0]).uri
    else:
        path = local_path(uri)
        if path.absolute() != path.absolute().parent:
            return str(path.parent)
    raise StorageError(f"{uri} lies in no folder.")


def parse_s3(uri: str) -> S3Location:
    """Take an `s3://` URI apart.

    Raises:
        StorageError: it names no bucket, or a key that leaves its folder.
    """
    bucket, _, key = uri.removeprefix(_S3_SCHEME).partition("/")
    if not uri.startswith(_S3_SCHEME) or not bucket:
        raise StorageError(f"{uri!r} names no bucket. Accepted: s3://BUCKET/KEY.")
    parts = key.strip("/").split("/")
    if any(part in ("", ".", "..") for part in parts) and parts != [""]:
        raise StorageError(f"{uri!r}: a key has no empty, `.` or `..` parts. Write it without them.")
    return S3Location(bucket=bucket, key="/".join(parts))


def local_path(uri: str | Path) -> Path:
    """The path that a local URI names.

    Raises:
        StorageError: it is of a scheme that storage does not know.
    """
    if isinstance(uri, Path):
        return uri
    if uri.startswith(_FILE_SCHEME):
        return Path(unquote(urlsplit(uri).path))
    scheme, found, _ = uri.partition("://")
    if found:
        raise StorageError(f"{uri}: the scheme {scheme!r} is not known. Accepted: s3://BUCKET/KEY, file:///PATH, or a path.")
    return Path(uri)
