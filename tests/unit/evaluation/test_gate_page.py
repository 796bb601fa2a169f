import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

from slipway.config import GateConfig
from slipway.evaluation.decision import Rule

PAGE = (Path(__file__).parents[3] / "docs" / "gate.md").read_text()


def test_the_page_on_the_gate_names_every_setting_with_its_default():
    stated = dict(re.findall(r"^\| `gate\.(\w+)` \| (\S+) \|", PAGE, flags=re.MULTILINE))
    assert stated == {field.name: str(field.default) for field in fields(GateConfig)}


def test_the_page_on_the_gate_names_every_rule():
    assert re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", PAGE, flags=re.MULTILINE) == list(get_args(Rule))
