"""PyTorch's network and optimizer for a config, which can copy our training state."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
import optax
import torch
from ml_collections import config_dict

from benchmarks.oracles import load
from jaxnets.interop.convert import to_torch

networks, weights = load("networks"), load("weights")
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def make_optimizer(
    rule: config_dict.ConfigDict, parameters: Iterable[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """Returns PyTorch's optimizer for `config.optimizer`."""
    if rule.name == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=rule.learning_rate,
            momentum=rule.momentum,
            nesterov=rule.nesterov,
            weight_decay=rule.weight_decay,
        )
    kind = torch.optim.AdamW if rule.decoupled_weight_decay else torch.optim.Adam
    return kind(
        parameters,
        lr=rule.learning_rate,
        betas=(rule.beta1, rule.beta2),
        eps=rule.epsilon,
        weight_decay=rule.weight_decay,
    )


class Mirror:
    """PyTorch's network, optimizer and cross entropy for a config, in its dtype."""

    def __init__(self, config: config_dict.ConfigDict):
        self._config = config
        self._dtype = DTYPES[config.model.dtype]
        self.network = networks.make_network(config).to(self._dtype)
        self.optimizer = make_optimizer(config.optimizer, self.network.parameters())

    def copy(self, state: Any) -> None:
        """Copies the parameters, batch statistics and optimizer buffers of a TrainState."""
        self.load(state.variables())
        name = self._config.model.name
        if self._config.optimizer.name == "sgd":
            sources = {"momentum_buffer": "trace"}
        else:
            sources = {"exp_avg": "mu", "exp_avg_sq": "nu"}
        buffers = {
            theirs: to_torch(name, optax.tree.get(state.opt_state, ours)) for theirs, ours in sources.items()
        }
        for path, parameter in self.network.named_parameters():
            optimizer_state = {key: torch.from_numpy(arrays[path]) for key, arrays in buffers.items()}
            if self._config.optimizer.name == "adam":
                optimizer_state["step"] = torch.tensor(float(state.step))
            self.optimizer.state[parameter] = optimizer_state

    def load(self, variables: Mapping[str, Any]) -> None:
        """Copies {"params", "batch_stats"}."""
        networks.load_arrays(self.network, self._arrays(variables))

    def inputs(self, images: np.ndarray) -> torch.Tensor:
        """Preprocesses uint8 [B, H, W, C] to (x / 255 - mean) / std, [B, C, H, W]."""
        x = torch.from_numpy(images).permute(0, 3, 1, 2).to(self._dtype) / 255
        mean, std = (
            torch.tensor(tuple(values), dtype=self._dtype)[:, None, None]
            for values in (self._config.data.mean, self._config.data.std)
        )
        return (x - mean) / std

    def logits(self, images: np.ndarray, *, train: bool) -> list[np.ndarray]:
        """Returns logits [B, classes], then those of auxiliary heads, in the order of depth.

        Training mode updates the running statistics.
        """
        self.network.train(train)
        with torch.no_grad():
            outputs = self.network(self.inputs(images))
        main, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        # torchvision returns GoogLeNet's second head before its first.
        return [logits.numpy() for logits in (main, *reversed(auxiliary)) if logits is not None]

    def gradient(self, batch: Mapping[str, np.ndarray], *, train: bool) -> tuple[float, Any]:
        """Returns the loss of a batch and its gradient by name; training mode updates the statistics."""
        self.network.train(train)
        self.optimizer.zero_grad()
        outputs = self.network(self.inputs(batch["image"]))
        labels = torch.from_numpy(batch["label"]).long()
        loss = networks.cross_entropy(outputs, labels, self._config)
        loss.backward()
        named = self.network.named_parameters()
        return loss.item(), {name: parameter.grad.numpy().copy() for name, parameter in named}

    def step(self, batch: Mapping[str, np.ndarray]) -> float:
        """Takes one training step and returns the loss before it."""
        loss, _ = self.gradient(batch, train=True)
        self.optimizer.step()
        return loss

    def distances(self, variables: Mapping[str, Any]) -> dict[str, float]:
        """Returns the relative L2 distance of each parameter and batch statistic from ours."""
        theirs = {
            name: tensor.numpy()
            for name, tensor in self.network.state_dict().items()
            if not name.endswith(networks.COUNTER)
        }
        return weights.distances(self._arrays(variables), theirs)

    def distance_of_parameters(self, params: Mapping[str, Any]) -> float:
        """Returns the relative L2 distance of all parameters, as one vector, from ours."""
        ours = to_torch(self._config.model.name, jax.device_get(dict(params)))
        theirs = dict(self.network.named_parameters())
        return weights.relative_l2(
            np.concatenate([ours[name].ravel() for name in theirs]),
            np.concatenate([tensor.detach().numpy().ravel() for tensor in theirs.values()]),
        )

    def _arrays(self, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
        name, host = self._config.model.name, jax.device_get(dict(variables))
        return {**to_torch(name, host["params"]), **to_torch(name, host["batch_stats"])}


def perturbed(variables: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Returns the variables with random scales, biases and statistics."""
    generator = np.random.default_rng(seed)

    def draw(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
        array = np.array(leaf)
        if path[-1].key == "var":
            return generator.uniform(0.5, 1.5, array.shape).astype(array.dtype)
        noise = 0.1 * generator.standard_normal(array.shape)
        return array if array.ndim > 1 else (array + noise).astype(array.dtype)

    return jax.tree_util.tree_map_with_path(draw, dict(variables))
