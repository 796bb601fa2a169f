"""A planned batch and what is to answer it, opened as a worker opens them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from slipway.batch.plan import Plan, read_plan
from slipway.cores import count_cores
from slipway.engines.choice import open_engine
from slipway.engines.engine import Engine
from slipway.export.bundle import BundleInfo, read_bundle
from slipway.settings import load_settings
from slipway.storage.objects import ObjectStorage


@dataclass(frozen=True, kw_only=True)
class PlannedBatch:
    """The plan in an output folder, with its model loaded."""

    storage: ObjectStorage
    plan: Plan
    engine: Engine
    info: BundleInfo

    @classmethod
    def open(cls, output: str) -> Self:
        """Read the plan and load the model, with as many threads as there are cores."""
        storage = ObjectStorage(load_settings())
        plan = read_plan(storage, output)
        bundle = read_bundle(Path(plan.model.reference))
        return cls(storage=storage, plan=plan, engine=open_engine(bundle, num_threads=count_cores()), info=bundle.info)
