"""PyTorch's sides of the rows; nothing here imports JAX, whose threads a DataLoader's fork would break."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.clock import UNTIMED_BATCHES, Clock
from benchmarks.oracles import load
from benchmarks.worker import process_peak_memory
from jaxnets.errors import CheckFailedError

CHECKED_IMAGES = 8
"""As in our_sides.py, which this process cannot import."""


class NetworkSide:
    """PyTorch's network with our weights, and the batch as normalised floats that stay on the device.

    `compiler` is torch.compile's backend, None for none; with `half` it computes under autocast in bfloat16.
    """

    def __init__(
        self,
        shared: Mapping[str, Any],
        *,
        channels_last: bool,
        threads: int,
        compiler: str | None = None,
        half: bool = False,
    ):
        import torch

        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = True  # XLA tries its forms too
        self.torch, self.config, batch = torch, shared["config"], shared["batch"]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        layout = torch.channels_last if channels_last else torch.contiguous_format
        networks = load("networks")
        self.network = networks.make_network(self.config)
        networks.load_arrays(self.network, shared["arrays"])
        self.network.to(device=device, memory_format=layout).eval()
        images = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2).float() / 255
        mean, std = (
            torch.tensor(tuple(values))[:, None, None]
            for values in (self.config.data.mean, self.config.data.std)
        )
        self.images = ((images - mean) / std).to(device).contiguous(memory_format=layout)
        self.labels = torch.from_numpy(batch["label"]).long().to(device)
        self.apply = torch.compile(self.network, backend=compiler) if compiler else self.network
        self._device, self._half = device, half

    def answer(self) -> np.ndarray:
        """The initial network's logits of the batch, in full single precision."""
        torch, training = self.torch, self.network.training
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            logits = self.network.eval()(self.images)
        self.network.train(training)
        return logits.cpu().numpy()

    def peak_memory(self) -> int | None:
        """The most that it held, in bytes, of the card (tensors alone) or of the process."""
        if self.images.is_cuda:
            return self.torch.cuda.max_memory_allocated()
        return process_peak_memory()

    def autocast(self) -> Any:
        """The context in which it computes."""
        return self.torch.autocast(self._device, self.torch.bfloat16, enabled=self._half)

    def wait(self) -> None:
        """Waits until the device has finished."""
        if self.images.is_cuda:
            self.torch.cuda.synchronize()


class TrainingSide(NetworkSide):
    """PyTorch's step of SGD with momentum."""

    def __init__(self, shared: Mapping[str, Any], **how: Any):
        super().__init__(shared, **how)
        self.network.train()
        self._optimizer = self.torch.optim.SGD(
            self.network.parameters(),
            lr=self.config.optimizer.learning_rate,
            momentum=self.config.optimizer.momentum,
        )
        self._cross_entropy = load("networks").cross_entropy
        self._loss: Any = None
        self._clock = Clock(self.take_step, self.wait)

    def measure(self, seconds: float) -> float:
        """Images per second; raises CheckFailedError where the loss is no longer finite."""
        speed = len(self.images) * self._clock.rate(seconds)
        if not np.isfinite(self._loss.item()):
            raise CheckFailedError("PyTorch's loss is not finite")
        return speed

    def losses(self, share: float) -> tuple[np.ndarray, float]:
        """The loss in training before and after an update by a `share` of the learning rate, [2]; the share.

        Nothing is dropped meanwhile.
        """
        dropping = [each for each in self.network.modules() if self._drops(each)]
        for module in dropping:
            module.eval()
        before = self._loss_of_step(0.0)
        self._loss_of_step(share)
        after = self._loss_of_step(1.0)
        for module in dropping:
            module.train()
        return np.array([before, after]), share

    def _drops(self, module: Any) -> bool:
        return isinstance(module, self.torch.nn.Dropout) and module.p > 0

    def _loss_of_step(self, share: float) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = share * self.config.optimizer.learning_rate
        self.take_step()
        return self._loss.item()

    def take_step(self) -> None:
        """One step; it may still be under way."""
        self._optimizer.zero_grad()
        with self.autocast():
            outputs = self.apply(self.images)
            self._loss = self._cross_entropy(outputs, self.labels, self.config)
        self._loss.backward()
        self._optimizer.step()


class InferenceSide(NetworkSide):
    """PyTorch's network in inference mode."""

    def __init__(self, shared: Mapping[str, Any], **how: Any):
        super().__init__(shared, **how)
        self._clock = Clock(self._take_step, self.wait)

    def measure(self, seconds: float) -> float:
        """Images per second."""
        return len(self.images) * self._clock.rate(seconds)

    def _take_step(self) -> None:
        with self.torch.inference_mode(), self.autocast():
            self.apply(self.images)


class MlpSide:
    """PyTorch's eager step of report A's MLP: SGD on the sum of squared errors, all points at once."""

    def __init__(self, shared: Mapping[str, Any], *, fused: bool, threads: int):
        import torch

        torch.set_num_threads(threads)
        self._torch, config = torch, shared["config"]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        kinds = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
        layers = []
        for (weight, bias), name in zip(shared["parameters"], config.model.activations, strict=True):
            layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
            layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
            layers += [layer, kinds[name]()]
        self._network = torch.nn.Sequential(*layers).to(device)
        self._inputs, self._labels = (
            torch.tensor(shared[name], dtype=torch.float32, device=device) for name in ("inputs", "labels")
        )
        self._optimizer = torch.optim.SGD(
            self._network.parameters(), lr=config.optimizer.learning_rate, fused=fused
        )
        self._clock = Clock(self._take_step, self._wait)

    def answer(self) -> np.ndarray:
        """The first predictions, then every parameter after one step, neuron by neuron."""
        torch = self._torch
        predictions = self._take_step().detach()
        with torch.no_grad():
            rows = [torch.cat([layer.weight, layer.bias[:, None]], 1).ravel() for layer in self._network[::2]]
        return torch.cat([predictions.ravel(), *rows]).cpu().numpy()

    def measure(self, seconds: float) -> float:
        """Points per second."""
        return len(self._inputs) * self._clock.rate(seconds)

    def _take_step(self) -> Any:
        self._optimizer.zero_grad()
        outputs = self._network(self._inputs)
        self._torch.nn.functional.mse_loss(outputs, self._labels, reduction="sum").backward()
        self._optimizer.step()
        return outputs

    def _wait(self) -> None:
        if self._inputs.is_cuda:
            self._torch.cuda.synchronize()


class LoaderSide:
    """A DataLoader in shuffled order, over JPEGs decoded by Pillow or over a memory map of pixels.

    Batches are uint8 [B, H, W, C], as ours are: nothing is converted to floats on either side.
    """

    def __init__(self, shared: Mapping[str, Any], *, workers: int, threads: int):
        import torch

        torch.set_num_threads(threads)
        self._batch_size = shared["batch_size"]
        self._dataset: JpegFiles | MemoryMap = (
            JpegFiles(shared["files"], shared["labels"])
            if "files" in shared
            else MemoryMap(shared["memory_map"], shared["labels"])
        )
        loader = torch.utils.data.DataLoader(
            self._dataset,
            batch_size=self._batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=None if "files" in shared else _as_it_is,
        )
        batches = _for_ever(loader)
        self._clock = Clock(lambda: next(batches), untimed=UNTIMED_BATCHES)

    def answer(self) -> np.ndarray:
        """The first images, as they are read."""
        images = [self._dataset[index][0].numpy() for index in range(CHECKED_IMAGES)]
        return np.stack(images).astype(np.float32)

    def measure(self, seconds: float) -> float:
        """Images per second."""
        return self._batch_size * self._clock.rate(seconds)


class JpegFiles:
    """A map-style dataset of image files: (uint8 tensor [H, W, C], label)."""

    def __init__(self, files: Sequence[str], labels: np.ndarray):
        import torch

        self._from_numpy, self._files, self._labels = torch.from_numpy, files, labels

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        with Image.open(self._files[index]) as image:
            pixels = np.array(image.convert("RGB"))
        return self._from_numpy(pixels), int(self._labels[index])


class MemoryMap:
    """A map-style dataset over rows of a .npy file, which a DataLoader asks for a batch at a time.

    A batch is (uint8 tensor [B, H, W, C], int tensor [B]), and needs no collating.
    """

    def __init__(self, path: str, labels: np.ndarray):
        import torch

        self._from_numpy, self._labels = torch.from_numpy, np.asarray(labels)
        self._images = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Any, Any]:
        return self._from_numpy(self._images[indices]), self._from_numpy(self._labels[indices])


def _as_it_is(batch: Any) -> Any:
    return batch


def _for_ever(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader
