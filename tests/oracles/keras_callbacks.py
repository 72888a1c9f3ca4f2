"""When Keras's EarlyStopping stops and its ReduceLROnPlateau cuts, in its own process: its backend is global.

As a program: `keras_callbacks.py CASES` takes JSON, a list of [losses, patience], and prints a list of
[epochs until the stop or null, learning rates after each epoch].
"""

import json
import sys
from types import SimpleNamespace

import keras


def answer(losses: list[float], patience: int) -> tuple[int | None, list[float]]:
    """Of one run whose validation losses are these; the learning rate begins at 1 and is cut to a tenth."""
    model = SimpleNamespace(stop_training=False, optimizer=keras.optimizers.SGD(1.0))
    stop = keras.callbacks.EarlyStopping("val_loss", patience=patience, mode="min")
    plateau = keras.callbacks.ReduceLROnPlateau(
        "val_loss", factor=0.1, patience=patience, mode="min", min_delta=0.0
    )
    for callback in (stop, plateau):
        callback.set_model(model)
        callback.on_train_begin()
    stopped, rates = None, []
    for epoch, loss in enumerate(losses):
        for callback in (stop, plateau):
            callback.on_epoch_end(epoch, {"val_loss": loss})
        rates.append(float(model.optimizer.learning_rate))
        if model.stop_training and stopped is None:
            stopped = epoch + 1
    return stopped, rates


if __name__ == "__main__":
    print(json.dumps([answer(*case) for case in json.loads(sys.argv[1])]))
