"""Import and export of other libraries' weights."""

from jaxnets.interop.torch_state import from_torch, to_torch, torch_name

__all__ = ["from_torch", "to_torch", "torch_name"]
