"""What a data source is: a URI scheme, the files it stands for, and a reader of their copies.

Nothing here and nothing at the top of a source's module imports numpy, pyarrow, Pillow or scikit-learn: names and
fingerprints are asked for by stages that then find their work already done.
"""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from slipway.errors import DataError
from slipway.storage.files import hash_file, hash_json
from slipway.storage.uri import join_uri

if TYPE_CHECKING:
    from slipway.data.raw import RawData

_MAX_NAME_CHARS = 40


@dataclass(frozen=True, kw_only=True)
class SourceUri:
    """A parsed source, `scheme://location?option=value`, or `scheme+s3://BUCKET/KEY?option=value`."""

    text: str
    scheme: str
    location: str
    options: Mapping[str, str]
    is_remote: bool = False
    """Whether it lies in an object store."""
    mirror: Path | None = None
    """Where on this machine a remote source has been fetched to."""

    @property
    def path(self) -> Path:
        """The location as a path of this machine; of a remote source that was not fetched, a path to take names from."""
        return self.mirror or (Path(self.location) if self.is_remote else Path(self.location).expanduser())

    @property
    def remote_uri(self) -> str:
        """The location in the object store."""
        return f"s3://{self.location}".rstrip("/")

    def show(self, *names: str) -> str:
        """The location, or what lies below it, as the person who owns the source knows it."""
        return join_uri(self.remote_uri, *names) if self.is_remote else str(self.path.joinpath(*names))


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file to copy, and its name (POSIX, relative) in the copy."""

    name: str
    path: Path


class Source(Protocol):
    """A format, implemented by a module of this package."""

    FORM: str
    """How its URIs look, for messages."""
    OPTIONS: tuple[str, ...]
    """Names that may follow `?`."""

    def model_name(self, uri: SourceUri) -> str:
        """A short name for a model trained on it; not yet a slug."""

    def compute_fingerprint(self, uri: SourceUri) -> str:
        """Changes when, and only when, the source's content or the way it is read does. Cheap imports only."""

    def copy_source(self, uri: SourceUri, files_dir: Path) -> None:
        """Copy all that `open_copy` needs into the existing, empty folder `files_dir`; DataError where that is impossible."""

    def open_copy(self, uri: SourceUri, files_dir: Path) -> "RawData":
        """Read what `copy_source` copied. Messages name the files as the person who owns the source knows them."""


def copy_files(uri: SourceUri, files: Sequence[SourceFile], files_dir: Path) -> None:
    """Copy `files` of a source under `files_dir`; those of a mirror, which is deleted afterwards, are moved there."""
    for file in files:
        target = files_dir / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if uri.mirror is not None:
            os.replace(file.path, target)
        else:
            shutil.copyfile(file.path, target)


def hash_files(files: Sequence[SourceFile], *settings: str) -> str:
    """A hash of the names and bytes of `files`, and of settings that decide how they are read."""
    return hash_json([sorted([file.name, hash_file(file.path)] for file in files), *settings])


def require_folder(uri: SourceUri) -> Path:
    """The folder that `uri` names; DataError where there is none."""
    if not uri.path.exists():
        raise DataError(f"{uri.text}: the folder {uri.path} does not exist. Correct the path in data.source.")
    if not uri.path.is_dir():
        raise DataError(f"{uri.text}: {uri.path} is a file; {uri.scheme}:// takes a folder.")
    return uri.path


def slugify(name: str) -> str:
    """A name for registries and clusters: lower-case letters, digits and hyphens, beginning with a letter."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_MAX_NAME_CHARS].strip("-")
    if not slug:
        return "model"
    return slug if slug[0].isalpha() else f"model-{slug}"[:_MAX_NAME_CHARS]
