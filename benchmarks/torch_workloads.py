"""Workloads of PyTorch. This module must not import JAX: its threads break when a DataLoader forks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.clock import WARMUP_BATCHES, Clock
from benchmarks.oracles import load
from benchmarks.worker import process_peak_memory
from jaxnets.errors import CheckFailedError

CHECKED_IMAGES = 8
"""As in jax_workloads.py, which this process cannot import."""


class NetworkWorkload:
    """A PyTorch network with the weights of jaxnets, and a normalized batch on the device.

    `compiler` is the backend of torch.compile, None for eager mode; `bfloat16` enables autocast.
    """

    def __init__(
        self,
        shared: Mapping[str, Any],
        *,
        channels_last: bool,
        threads: int,
        compiler: str | None = None,
        bfloat16: bool = False,
    ):
        import torch

        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = True  # XLA autotunes too
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
        self._device, self._bfloat16 = device, bfloat16

    def outputs(self) -> np.ndarray:
        """Returns the initial network's logits of the batch in full single precision."""
        torch, training = self.torch, self.network.training
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            logits = self.network.eval()(self.images)
        self.network.train(training)
        return logits.cpu().numpy()

    def peak_memory(self) -> int | None:
        """Returns the peak memory of tensors on the GPU or of the process in bytes."""
        if self.images.is_cuda:
            return self.torch.cuda.max_memory_allocated()
        return process_peak_memory()

    def autocast(self) -> Any:
        """Returns the autocast context of the forward pass."""
        return self.torch.autocast(self._device, self.torch.bfloat16, enabled=self._bfloat16)

    def wait(self) -> None:
        """Waits for the device."""
        if self.images.is_cuda:
            self.torch.cuda.synchronize()


class TrainingWorkload(NetworkWorkload):
    """A training step of SGD with momentum."""

    def __init__(self, shared: Mapping[str, Any], **options: Any):
        super().__init__(shared, **options)
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
        """Returns images per second; raises CheckFailedError if the loss is not finite."""
        speed = len(self.images) * self._clock.rate(seconds)
        if not np.isfinite(self._loss.item()):
            raise CheckFailedError("PyTorch's loss is not finite")
        return speed

    def losses(self, lr_fraction: float) -> tuple[np.ndarray, float]:
        """Returns the training losses before and after an update, [2], and the fraction of the learning rate.

        Dropout is disabled.
        """
        dropout = [module for module in self.network.modules() if self._is_dropout(module)]
        for module in dropout:
            module.eval()
        before = self._loss_of_step(0.0)
        self._loss_of_step(lr_fraction)
        after = self._loss_of_step(1.0)
        for module in dropout:
            module.train()
        return np.array([before, after]), lr_fraction

    def _is_dropout(self, module: Any) -> bool:
        return isinstance(module, self.torch.nn.Dropout) and module.p > 0

    def _loss_of_step(self, lr_fraction: float) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = lr_fraction * self.config.optimizer.learning_rate
        self.take_step()
        return self._loss.item()

    def take_step(self) -> None:
        """Dispatches one step."""
        self._optimizer.zero_grad()
        with self.autocast():
            outputs = self.apply(self.images)
            self._loss = self._cross_entropy(outputs, self.labels, self.config)
        self._loss.backward()
        self._optimizer.step()


class InferenceWorkload(NetworkWorkload):
    """The network in inference mode; on CPUs, compilation folds the weights into the program (freezing)."""

    def __init__(self, shared: Mapping[str, Any], **options: Any):
        super().__init__(shared, **options)
        if options.get("compiler") == "inductor" and not self.images.is_cuda:
            import torch._inductor.config

            torch._inductor.config.freezing = True
        self._clock = Clock(self._run_step, self.wait)

    def measured_outputs(self) -> np.ndarray:
        """Returns the logits of the program that is measured."""
        return self._run_step().float().numpy()

    def measure(self, seconds: float) -> float:
        """Returns images per second."""
        return len(self.images) * self._clock.rate(seconds)

    def _run_step(self) -> Any:
        with self.torch.inference_mode(), self.autocast():
            return self.apply(self.images)


class MlpWorkload:
    """Eager full-batch training of report A's MLP: SGD on the sum of squared errors."""

    def __init__(self, shared: Mapping[str, Any], *, fused: bool, threads: int):
        import torch

        torch.set_num_threads(threads)
        self._torch, config = torch, shared["config"]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        modules = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
        layers = []
        for (weight, bias), name in zip(shared["parameters"], config.model.activations, strict=True):
            layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
            layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
            layers += [layer, modules[name]()]
        self._network = torch.nn.Sequential(*layers).to(device)
        self._inputs, self._labels = (
            torch.tensor(shared[name], dtype=torch.float32, device=device) for name in ("inputs", "labels")
        )
        self._optimizer = torch.optim.SGD(
            self._network.parameters(), lr=config.optimizer.learning_rate, fused=fused
        )
        self._clock = Clock(self._run_step, self._wait)

    def outputs(self) -> np.ndarray:
        """Returns the initial predictions, then all parameters after one step, neuron by neuron."""
        torch = self._torch
        predictions = self._run_step().detach()
        with torch.no_grad():
            rows = [torch.cat([layer.weight, layer.bias[:, None]], 1).ravel() for layer in self._network[::2]]
        return torch.cat([predictions.ravel(), *rows]).cpu().numpy()

    def measure(self, seconds: float) -> float:
        """Returns points per second."""
        return len(self._inputs) * self._clock.rate(seconds)

    def _run_step(self) -> Any:
        self._optimizer.zero_grad()
        outputs = self._network(self._inputs)
        self._torch.nn.functional.mse_loss(outputs, self._labels, reduction="sum").backward()
        self._optimizer.step()
        return outputs

    def _wait(self) -> None:
        if self._inputs.is_cuda:
            self._torch.cuda.synchronize()


class DataLoaderWorkload:
    """A shuffled DataLoader over JPEGs or over a memory map of pixels.

    Batches are uint8 [B, H, W, C], as in jaxnets.
    """

    def __init__(self, shared: Mapping[str, Any], *, workers: int, threads: int):
        import torch

        torch.set_num_threads(threads)
        self._batch_size = shared["batch_size"]
        self._dataset: JpegDataset | MemmapDataset = (
            JpegDataset(shared["files"], shared["labels"])
            if "files" in shared
            else MemmapDataset(shared["memory_map"], shared["labels"])
        )
        loader = torch.utils.data.DataLoader(
            self._dataset,
            batch_size=self._batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=None if "files" in shared else _identity,
        )
        batches = _repeat(loader)
        self._clock = Clock(lambda: next(batches), warmup=WARMUP_BATCHES)

    def outputs(self) -> np.ndarray:
        """Returns the first images."""
        images = [self._dataset[index][0].numpy() for index in range(CHECKED_IMAGES)]
        return np.stack(images).astype(np.float32)

    def measure(self, seconds: float) -> float:
        """Returns images per second."""
        return self._batch_size * self._clock.rate(seconds)


class JpegDataset:
    """A map-style dataset of image files; examples are (uint8 tensor [H, W, C], label)."""

    def __init__(self, files: Sequence[str], labels: np.ndarray):
        import torch

        self._from_numpy, self._files, self._labels = torch.from_numpy, files, labels

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        with Image.open(self._files[index]) as image:
            pixels = np.array(image.convert("RGB"))
        return self._from_numpy(pixels), int(self._labels[index])


class MemmapDataset:
    """A map-style dataset over a .npy file, which returns whole batches (`__getitems__`).

    A batch is (uint8 tensor [B, H, W, C], int tensor [B]).
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


def _identity(batch: Any) -> Any:
    return batch


def _repeat(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader
