"""Where ingested data came from: `provenance.json`, beside the copies."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from slipway.errors import DataError
from slipway.storage.files import write_json

PROVENANCE_NAME = "provenance.json"
INDEX_NAME = "index.arrow"
FILES_NAME = "files"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What was ingested."""

    source: str
    """The URI."""
    kind: str
    """Its scheme."""
    content_hash: str
    """Of the copied files' names and bytes."""
    num_files: int
    size_bytes: int
    num_samples: int
    slipway_version: str


def write_provenance(raw_dir: Path, provenance: Provenance) -> None:
    """Write `provenance.json` into `raw_dir`."""
    write_json(raw_dir / PROVENANCE_NAME, asdict(provenance))


def read_provenance(raw_dir: Path) -> Provenance:
    """Read `provenance.json`.

    Raises:
        DataError: `raw_dir` was not written by `ingest_source`, or is damaged.
    """
    path = raw_dir / PROVENANCE_NAME
    try:
        return Provenance(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: {raw_dir} does not hold ingested data. Run ingest first.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error!r}). Remove {raw_dir} and run ingest again.") from None
