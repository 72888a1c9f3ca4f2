"""The config fields of training: transfer learning, optimizer, callbacks, evaluation and the log."""

from collections.abc import Mapping

from jaxnets.config import conditions as when
from jaxnets.config.field import Field, choice, duration, field, optional, period

TRAINING_FIELDS: Mapping[str, Field] = {
    # Transfer learning.
    "transfer.weights": optional(
        str,
        "pretrained backbone: a weights folder, a run directory, a name in DATA/weights, "
        "imagenet:efficientnet_lite0 (or lite1, lite2), or random; None: train from scratch",
    ),
    "transfer.pretrained_on": optional(
        str, "the data set of the pretrained weights, for tables, such as ImageNet", used=when.WEIGHTS
    ),
    "transfer.freeze_backbone": field(False, "train only the head", used=when.WEIGHTS),
    "transfer.cache_features": field(
        True, "compute the features of a frozen backbone only once", used=when.CAN_CACHE_FEATURES
    ),
    **duration("transfer.head_only_", "train only the head before the full network", used=when.FINE_TUNES),
    "transfer.backbone_lr_multiplier": field(
        1.0, "learning rate of the backbone relative to the head", gt=0.0, le=1.0, used=when.FINE_TUNES
    ),
    # Training.
    "train.batch_size": field(32, "images per step, over all devices and processes", ge=1),
    **duration("train.", "training duration", ge=1),
    "train.drop_last": field(False, "drop an epoch's last incomplete batch"),
    "train.loss": choice(
        "cross_entropy",
        ("cross_entropy", *when.SQUARED_ERRORS),
        "the loss: sum_ and half_squared_error are sums over the batch, the others means",
    ),
    "train.label_smoothing": field(0.0, "label smoothing", ge=0.0, le=0.99, used=when.CROSS_ENTROPY),
    "train.class_weights": field(
        (),
        "loss weight per class; balanced: inverse to the class's training examples, as in scikit-learn; "
        "empty: none",
        gt=0.0,
        words=("balanced",),
        used=when.CROSS_ENTROPY,
    ),
    "train.balanced_sampling": field(
        False,
        "draw every class equally often, with replacement, as PyTorch's WeightedRandomSampler does",
        used=when.IMAGES,
    ),
    "train.auxiliary_weight": optional(
        float, "loss weight of each auxiliary head; None: that of the paper", ge=0.0, used=when.AUXILIARY_LOSS
    ),
    "train.grad_accum_steps": field(1, "number of microbatches per batch (gradient accumulation)", ge=1),
    "train.remat": field(
        False,
        "store the outputs of convolutions only and compute the other activations again in the backward "
        "pass: less memory, slower steps",
    ),
    "train.steps_per_execution": field(
        0, "maximum steps per call with data on the device; 0: automatic", ge=0, le=10_000
    ),
    "train.clip_grad_norm": optional(float, "maximum global gradient norm; None: no clipping", gt=0.0),
    "train.ema_decay": optional(float, "decay of the moving average of weights; None: off", gt=0.0, lt=1.0),
    "optimizer.name": choice(
        "sgd",
        ("sgd", "adam"),
        "the optimizer",
        aliases=(
            (
                "adamw",
                "AdamW is adam with --config.optimizer.decoupled_weight_decay=True and a "
                "--config.optimizer.weight_decay",
            ),
        ),
    ),
    "optimizer.learning_rate": field(0.1, "peak learning rate", gt=0.0),
    "optimizer.momentum": field(0.9, "momentum", ge=0.0, le=1.0, used=when.SGD),
    "optimizer.nesterov": field(False, "Nesterov momentum", used=when.positive("optimizer.momentum", 0.9)),
    "optimizer.beta1": field(0.9, "decay of the first moment", ge=0.0, lt=1.0, used=when.ADAM),
    "optimizer.beta2": field(0.999, "decay of the second moment", ge=0.0, lt=1.0, used=when.ADAM),
    "optimizer.epsilon": field(1e-8, "added outside the square root", gt=0.0, used=when.ADAM),
    "optimizer.weight_decay": field(0.0, "applied to all parameters, as in PyTorch", ge=0.0),
    "optimizer.decoupled_weight_decay": field(
        False, "decoupled weight decay (AdamW)", used=when.CAN_DECOUPLE_WEIGHT_DECAY
    ),
    "schedule.name": choice("constant", ("constant", "step", "cosine"), "schedule after warmup"),
    **duration("schedule.warmup_", "linear warmup from 0"),
    **period("schedule.decay_every_", "interval between decays", used=when.STEP),
    "schedule.decay_factor": field(0.1, "factor of each decay", gt=0.0, le=1.0, used=when.STEP),
    "schedule.final_fraction": field(
        0.0, "final rate relative to the peak", ge=0.0, le=1.0, used=when.COSINE
    ),
    # Callbacks.
    "plateau.patience": optional(
        int,
        "evaluations without improvement before a reduction, as in optax and Keras; None: off",
        ge=0,
        used=when.HAS_VALIDATION,
    ),
    "plateau.factor": field(0.1, "factor of each reduction", gt=0.0, le=1.0, used=when.PLATEAU),
    "plateau.cooldown": field(0, "evaluations to wait after a reduction", ge=0, used=when.PLATEAU),
    "plateau.min_delta": field(1e-4, "minimum relative improvement", gt=0.0, used=when.PLATEAU),
    "plateau.min_scale": field(0.0, "lower bound of the total factor", ge=0.0, used=when.PLATEAU),
    "early_stopping.patience": optional(
        int,
        "evaluations without improvement before stopping, as in Keras; None: off",
        ge=0,
        used=when.HAS_VALIDATION,
    ),
    "early_stopping.min_delta": field(
        0.0, "minimum improvement", ge=0.0, used=when.given("early_stopping.patience", 5)
    ),
    "monitor.metric": choice(
        "validation_loss",
        ("validation_loss", "validation_accuracy"),
        "metric of plateau, early stopping and the best checkpoint",
        used=when.HAS_VALIDATION,
    ),
    # Evaluation, checkpoints and the log.
    "eval.batch_size": field(0, "images per batch; 0: train.batch_size", ge=0),
    **period(
        "eval.every_",
        "interval between evaluations",
        used=when.any_of(when.HAS_VALIDATION, when.positive("eval.monitor_test", True)),
    ),
    "eval.ema": field(
        True, "evaluate the moving average of weights", used=when.given("train.ema_decay", 0.999)
    ),
    "eval.monitor_test": field(
        False,
        "evaluate the test set at every evaluation too (augmented if eval.augment is set); never used "
        "for model selection",
    ),
    "eval.augment": field(False, "also test on augmented images", used=when.AUGMENTS),
    "eval.dropout": field(
        False,
        "also test with dropout, as PyTorch without model.eval()",
        used=when.all_of(when.DROPOUT_ALONE, when.positive("model.dropout", 0.5)),
    ),
    "eval.use_best": field(False, "test the best checkpoint instead of the last", used=when.HAS_VALIDATION),
    **period("checkpoint.every_", "interval between checkpoints"),
    "checkpoint.keep": field(2, "number of newest checkpoints to keep, besides the best", ge=1),
    "log.every_steps": field(
        50, "steps between training records of metrics.jsonl; at least one per epoch", ge=1
    ),
    "log.tensorboard": field(True, "write TensorBoard event files"),
    **period(
        "log.histograms_every_",
        "interval between histograms of the weights for TensorBoard",
        used=when.positive("log.tensorboard", True),
    ),
}
