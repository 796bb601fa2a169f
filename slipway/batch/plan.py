"""What a batch prediction is made of: the same input, model and options give the same plan, and its shards the same answers.

The output folder holds `plan.json` from the beginning, `shards/` and `errors/` as they come, `done/` with what each finished
shard is, and `manifest.json` when all stand: what it lists is the output, each sample once.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson

from slipway.errors import BatchError, ConfigError, ObjectMissingError
from slipway.storage.listing import StoredFile
from slipway.storage.objects import ObjectStorage
from slipway.storage.uri import join_uri

PLAN_NAME = "plan.json"
FORMAT_VERSION = 3

Kind = Literal["images", "csv", "jsonl", "parquet"]


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """How the work is cut, and what may be wrong with it."""

    shard_rows: int = 10_000
    """Samples of a shard; a Parquet file is cut at its row groups."""
    max_unreadable: float = 0.0
    """Share of the samples that may be unreadable; more, and there is no manifest."""

    def __post_init__(self) -> None:
        if self.shard_rows < 1:
            raise ConfigError(f"shard_rows is {self.shard_rows}; accepted: 1 or more.")
        if not 0.0 <= self.max_unreadable <= 1.0:
            raise ConfigError(f"max_unreadable is {self.max_unreadable}; accepted: a share from 0 to 1.")


@dataclass(frozen=True, kw_only=True)
class ModelReference:
    """The one version that answers all of it."""

    reference: str
    """What names it for good: a bundle's URI, or NAME@VERSION."""
    bundle_id: str


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What is predicted and written at once: consecutive images, or consecutive rows of one file."""

    number: int
    num_rows: int
    """Samples."""
    file: int
    """Place of its file, or of the first of its images, among the plan's files."""
    first_row: int = 0
    """From 0, in the file."""
    start: int = 0
    """Text: offset of the first byte. Parquet: the first row group."""
    end: int = 0
    """Text: offset after the last byte. Parquet: the row group after the last one."""

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.number:06d}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All of a batch prediction."""

    format_version: int = FORMAT_VERSION
    plan_id: str = ""
    """Hash of all the rest. Filled in by `seal`."""
    input: str
    """What was asked for: a folder, or one file."""
    folder: str
    """That the files' names are relative to: the input, or where that one file lies."""
    kind: Kind
    model: ModelReference
    options: PlanOptions
    files: tuple[StoredFile, ...]
    """Of the input, as they were listed. A worker reads them only while they are these."""
    shards: tuple[Shard, ...]

    @property
    def num_rows(self) -> int:
        """Samples."""
        return sum(shard.num_rows for shard in self.shards)

    def seal(self) -> "Plan":
        """The same with its id."""
        return replace(self, plan_id=hashlib.sha256(_encode(replace(self, plan_id=""))).hexdigest()[:32])


def store_plan(storage: ObjectStorage, output: str, plan: Plan) -> None:
    """Write the plan to the output folder, unless it is there.

    Raises:
        BatchError: the folder belongs to another plan.
    """
    try:
        present = read_plan(storage, output)
    except ObjectMissingError:
        storage.write_bytes(join_uri(output, PLAN_NAME), _encode(plan))
        return
    if present.plan_id == plan.plan_id:
        return
    if present.input == plan.input and present.files != plan.files:
        told = f"the input's files ({_describe_change(present.files, plan.files)})"
    else:
        fields = ("input", "kind", "model", "options")
        told = ", ".join(name for name in fields if getattr(present, name) != getattr(plan, name))
        told = told or "its shards (another version of Slipway cut them)"
    raise BatchError(
        f"{output} holds another batch prediction: it differs in {told}. Choose another folder, or name what that was made with "
        f"(model {present.model.reference}, input {present.input}, shard_rows {present.options.shard_rows}, max_unreadable "
        f"{present.options.max_unreadable:g})."
    )


def read_plan(storage: ObjectStorage, output: str) -> Plan:
    """The plan of an output folder.

    Raises:
        ObjectMissingError: there is none.
        BatchError: it is damaged, or of another format.
    """
    uri = join_uri(output, PLAN_NAME)
    content = storage.read_bytes(uri)
    try:
        fields = orjson.loads(content)
        version = fields["format_version"]
        plan = _parse(fields) if version == FORMAT_VERSION else None
    except (ValueError, KeyError, TypeError) as error:
        raise BatchError(f"{uri} is damaged ({error!r}). Delete the folder, or choose another one.") from None
    if plan is None:
        raise BatchError(
            f"{uri} was made by another version of Slipway (its format is {version!r}, this version's {FORMAT_VERSION}). Choose "
            "another output folder, or go on with the version that made it."
        )
    if plan.seal().plan_id != plan.plan_id:
        raise BatchError(f"{uri} was altered. Delete the folder, or choose another one.")
    return plan


def _encode(plan: Plan) -> bytes:
    return orjson.dumps(plan, option=orjson.OPT_SORT_KEYS)


def _parse(content: dict[str, Any]) -> Plan:
    files = tuple(StoredFile(**file) for file in content.pop("files"))
    shards = tuple(Shard(**shard) for shard in content.pop("shards"))
    model, options = ModelReference(**content.pop("model")), PlanOptions(**content.pop("options"))
    return Plan(**content, model=model, options=options, files=files, shards=shards)


def _describe_change(before: Sequence[StoredFile], after: Sequence[StoredFile]) -> str:
    """The first file that is not what it was."""
    old, new = ({file.name: file for file in files} for files in (before, after))
    name = min(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return f"{name} {'was added' if name not in old else 'was removed' if name not in new else 'has changed'}"
