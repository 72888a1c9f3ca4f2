"""Arrays that do not fit are refused by name and shape, since broadcasting would take some in silence."""

from typing import Any

import jax

from jaxnets.errors import ConfigError


def require(fits: bool, message: str) -> None:
    """Raises ConfigError with `message` unless the shapes are as they must be."""
    if not fits:
        raise ConfigError(message)


def check_same_shape(gradient: jax.Array, shape: tuple[int, ...], what: str) -> None:
    """Raises ConfigError where a gradient has not the shape of `what` it belongs to."""
    require(
        gradient.shape == shape,
        f"the gradient {list(gradient.shape)} is not of the shape {list(shape)} of {what}",
    )


def check_same_tree(gradients: Any, parameters: Any) -> None:
    """Raises ConfigError at the first parameter whose gradient is missing or of another shape."""
    wanted = {jax.tree_util.keystr(path): leaf.shape for path, leaf in _leaves(parameters)}
    found = {jax.tree_util.keystr(path): leaf.shape for path, leaf in _leaves(gradients)}
    for name in [*wanted, *found]:
        require(
            found.get(name) == wanted.get(name),
            f"parameter {name or 'itself'} has shape {wanted.get(name, 'none: there is no such')}, "
            f"its gradient {found.get(name, 'none: it is missing')}",
        )


def _leaves(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(tree)
