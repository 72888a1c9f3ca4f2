"""Shape checks: mismatched shapes raise instead of broadcasting silently."""

from typing import Any

import jax

from jaxnets.errors import ConfigError


def require(condition: bool, message: str) -> None:
    """Raises ConfigError with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def check_same_shape(gradient: jax.Array, shape: tuple[int, ...], name: str) -> None:
    """Raises ConfigError unless a gradient has the shape of `name`."""
    require(
        gradient.shape == shape,
        f"the gradient has shape {list(gradient.shape)}, but {name} has shape {list(shape)}",
    )


def check_same_tree(gradients: Any, parameters: Any) -> None:
    """Raises ConfigError unless every parameter has a gradient of its shape, and vice versa."""
    expected, found = _shapes(parameters), _shapes(gradients)
    for name in [*expected, *found]:
        require(name in found, f"parameter {name} has no gradient")
        require(name in expected, f"gradient {name} has no parameter")
        require(
            found[name] == expected[name],
            f"parameter {name} has shape {expected[name]}, but its gradient has shape {found[name]}",
        )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}
