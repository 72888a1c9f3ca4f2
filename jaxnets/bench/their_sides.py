"""PyTorch's sides of the rows; nothing here imports JAX, whose threads a DataLoader's fork would break."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from jaxnets.bench.clock import Clock
from jaxnets.bench.oracles import load
from jaxnets.errors import CheckFailedError

ANSWERED, UNTIMED_BATCHES = 8, 8
"""As in our_sides.py, which this process cannot import."""


class TrainingSide:
    """PyTorch's step of SGD with momentum, on normalised float tensors that stay on the device."""

    def __init__(self, shared: Mapping[str, Any], *, channels_last: bool, threads: int):
        import torch

        torch.set_num_threads(threads)
        self._torch, config, batch = torch, shared["config"], shared["batch"]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        layout = torch.channels_last if channels_last else torch.contiguous_format
        networks = load("networks")
        self._network = networks.make_network(config.model)
        networks.load_arrays(self._network, shared["arrays"])
        self._network.to(device=device, memory_format=layout).train()
        images = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2).float() / 255
        mean, std = (
            torch.tensor(tuple(values))[:, None, None]
            for values in (config.data.mean, config.data.std)
        )
        self._images = ((images - mean) / std).to(device).contiguous(memory_format=layout)
        self._labels = torch.from_numpy(batch["label"]).long().to(device)
        self._optimizer = torch.optim.SGD(
            self._network.parameters(),
            lr=config.optimizer.learning_rate,
            momentum=config.optimizer.momentum,
        )
        self._loss: Any = None
        self._clock = Clock(self._take_step, self._wait)

    def answer(self) -> np.ndarray:
        """The initial network's logits of the batch, in full single precision."""
        torch = self._torch
        with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
            logits = self._network.eval()(self._images)
        self._network.train()
        return logits.cpu().numpy()

    def measure(self, seconds: float) -> float:
        """Images per second; raises CheckFailedError where the loss is no longer finite."""
        speed = len(self._images) * self._clock.rate(seconds)
        if not np.isfinite(self._loss.item()):
            raise CheckFailedError("PyTorch's loss is not finite")
        return speed

    def _take_step(self) -> None:
        self._optimizer.zero_grad()
        self._loss = self._torch.nn.functional.cross_entropy(
            self._network(self._images), self._labels
        )
        self._loss.backward()
        self._optimizer.step()

    def _wait(self) -> None:
        if self._images.is_cuda:
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
        )
        batches = _for_ever(loader)
        self._clock = Clock(lambda: next(batches), untimed=UNTIMED_BATCHES)

    def answer(self) -> np.ndarray:
        """The first images, as they are read."""
        images = [self._dataset[index][0].numpy() for index in range(ANSWERED)]
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
    """A map-style dataset over rows of a .npy file: (uint8 tensor [H, W, C], label)."""

    def __init__(self, path: str, labels: np.ndarray):
        import torch

        self._from_numpy, self._labels = torch.from_numpy, labels
        self._images = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self._from_numpy(np.array(self._images[index])), int(self._labels[index])


def _for_ever(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader
