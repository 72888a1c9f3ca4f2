"""When Keras's EarlyStopping stops and its ReduceLROnPlateau reduces; a process, as its backend is global.

`python keras_callbacks.py CASES` takes JSON, a list of [losses, patience], and prints a list of
[epochs until the stop or null, learning rates after each epoch].
"""

import json
import sys
from types import SimpleNamespace

import keras


def stop_and_rates(losses: list[float], patience: int) -> tuple[int | None, list[float]]:
    """Returns the epoch of the stop and the learning rates; the rate starts at 1 and is divided by 10."""
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
    print(json.dumps([stop_and_rates(*case) for case in json.loads(sys.argv[1])]))
