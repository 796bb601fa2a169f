"""Where a training may run, as settings say it."""

import pytest

from slipway.config import TrainConfig
from slipway.errors import ConfigError
from slipway.placement import parse_node_selector, parse_tolerations


def test_labels_of_nodes_are_written_as_kubectl_writes_them():
    assert parse_node_selector("") == {}
    assert parse_node_selector("nvidia.com/gpu.present=true, pool=a") == {"nvidia.com/gpu.present": "true", "pool": "a"}
    assert parse_node_selector("node-role.kubernetes.io/worker=") == {"node-role.kubernetes.io/worker": ""}


def test_taints_are_tolerated_with_their_value_or_with_any():
    assert parse_tolerations("") == ()
    assert parse_tolerations("dedicated=ml:NoSchedule,example.com/spot:NoExecute") == (
        {"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"},
        {"key": "example.com/spot", "operator": "Exists", "effect": "NoExecute"},
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"node_selector": "pool"}, r"train.node_selector has 'pool'; accepted: KEY=VALUE"),
        ({"node_selector": "pool=a,"}, r"train.node_selector has ''"),
        ({"node_selector": "pool=-a"}, "train.node_selector has 'pool=-a'"),
        ({"node_selector": "pool=a,pool=b"}, "names a label twice"),
        ({"tolerations": "dedicated=ml"}, r"train.tolerations has 'dedicated=ml'; accepted: KEY\[=VALUE\]:EFFECT"),
        ({"tolerations": "dedicated:Never"}, "train.tolerations has 'dedicated:Never'"),
        ({"shared_memory_gib": -1}, "train.shared_memory_gib is -1; accepted: 0 or more"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_before_anything_is_compiled(changes, told):
    with pytest.raises(ConfigError, match=told):
        TrainConfig(**changes)
