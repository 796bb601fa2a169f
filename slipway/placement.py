"""Which nodes a training may run on, as settings say it: labels of a node, and taints that are tolerated."""

import re

from slipway.errors import ConfigError

_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_KEY = rf"([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_NAME}"
_LABEL = re.compile(rf"(?P<key>{_KEY})=(?P<value>({_NAME})?)")
_TAINT = re.compile(rf"(?P<key>{_KEY})(=(?P<value>({_NAME})?))?:(?P<effect>NoSchedule|PreferNoSchedule|NoExecute)")


def parse_node_selector(text: str) -> dict[str, str]:
    """The labels of `train.node_selector`: `KEY=VALUE`, several with commas between; "" for none.

    Raises:
        ConfigError: it is of another form, or names a label twice.
    """
    found = [_match(_LABEL, part, "train.node_selector", "KEY=VALUE[,KEY=VALUE], such as pool=training") for part in _split(text)]
    labels = {one["key"]: one["value"] for one in found}
    if len(labels) < len(found):
        raise ConfigError(
            f"train.node_selector has {text!r}, which names a label twice; a node has one value of each. Name each label once."
        )
    return labels


def parse_tolerations(text: str) -> tuple[dict[str, str], ...]:
    """The tolerations of `train.tolerations`, written as `kubectl taint` writes taints; in the API's own JSON.

    `KEY=VALUE:EFFECT` tolerates that taint, `KEY:EFFECT` it with any value.

    Raises:
        ConfigError: it is of another form.
    """
    accepted = "KEY[=VALUE]:EFFECT, with commas between several, such as dedicated=ml:NoSchedule"
    found = [_match(_TAINT, part, "train.tolerations", accepted) for part in _split(text)]
    return tuple(
        {"key": one["key"], "effect": one["effect"]}
        | ({"operator": "Exists"} if one["value"] is None else {"operator": "Equal", "value": one["value"]})
        for one in found
    )


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text.strip() else []


def _match(pattern: re.Pattern[str], part: str, setting: str, accepted: str) -> re.Match[str]:
    found = pattern.fullmatch(part)
    if found is None:
        raise ConfigError(f"{setting} has {part!r}; accepted: {accepted}.")
    return found
