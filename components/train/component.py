"""Train: torchrun, then the export of the bundle."""

from kfp import dsl


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def train(
    data_source: str,
    deploy_model_name: str,
    model_architecture: str,
    model_width: float,
    model_dropout: float,
    train_epochs: int,
    train_batch_size: int,
    train_learning_rate: float,
    train_optimizer: str,
    train_momentum: float,
    train_weight_decay: float,
    train_schedule: str,
    train_warmup_epochs: int,
    train_step_epochs: int,
    train_step_factor: float,
    train_label_smoothing: float,
    train_clip_norm: float,
    train_accumulate_steps: int,
    train_precision: str,
    train_channels_last: bool,
    train_crop_padding: int,
    train_flip: bool,
    train_cutout: int,
    train_color_jitter: float,
    train_early_stopping_epochs: int,
    train_seed: int,
    train_deterministic: bool,
    train_num_processes: int,
    train_num_gpus: int,
    train_num_nodes: int,
    train_launcher: str,
    train_schedule_seconds: int,
    train_node_selector: str,
    train_tolerations: str,
    train_shared_memory_gib: int,
    train_max_restarts: int,
    train_checkpoint_steps: int,
    export_precision: str,
    export_max_drop: float,
    gate_max_regression: float,
    dataset: dsl.Input[dsl.Dataset],
    bundle: dsl.Output[dsl.Model],
    training: dsl.Output[dsl.Artifact],
) -> None:
    """Train with torchrun, resume from the last checkpoint, export the bundle."""
    parameters = locals()
    from slipway.stages.train import run_train

    facts = run_train(parameters, dataset=dataset.path, bundle=bundle.path, training=training.path, dataset_uri=dataset.uri)
    bundle.metadata.update(facts)
