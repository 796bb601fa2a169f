"""Which submitter trains."""

import pytest

from slipway.config import TrainConfig
from slipway.errors import ConfigError
from slipway.launch.local import LocalSubmitter
from slipway.launch.submitter import choose_submitter
from slipway.settings import load_settings


def test_a_laptop_and_a_task_of_one_node_train_where_they_are():
    assert isinstance(choose_submitter(load_settings({}), TrainConfig(num_nodes=4)), LocalSubmitter)
    in_cluster = load_settings({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "SLIPWAY_STATE_URI": "s3://slipway/state"})
    assert isinstance(choose_submitter(in_cluster, TrainConfig()), LocalSubmitter)
    assert isinstance(choose_submitter(in_cluster, TrainConfig(num_nodes=2, launcher="local")), LocalSubmitter)


def test_several_nodes_without_a_folder_that_all_reach_are_refused_with_the_remedy():
    with pytest.raises(ConfigError, match="SLIPWAY_STATE_URI=s3://BUCKET/state"):
        choose_submitter(load_settings({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}), TrainConfig(num_nodes=2))
