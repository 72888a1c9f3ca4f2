"""Convolution, pooling and normalisation: pure functions, and the Linen layers on them.

Images are [B, H, W, C], kernels [kh, kw, C_in, C_out]. Each function has one reference form, on `jax.lax`,
and where it was measured faster a form for CPUs, which is chosen when a program is traced.
"""

from jaxnets.ops import initializers as initializers
from jaxnets.ops.functional import ChannelsOf as ChannelsOf
from jaxnets.ops.functional import average_pool as average_pool
from jaxnets.ops.functional import convolution as convolution
from jaxnets.ops.functional import global_average_pool as global_average_pool
from jaxnets.ops.functional import global_max_pool as global_max_pool
from jaxnets.ops.functional import max_pool as max_pool
from jaxnets.ops.initializers import INITIALIZERS as INITIALIZERS
from jaxnets.ops.initializers import Initialization as Initialization
from jaxnets.ops.layers import FOLDED as FOLDED
from jaxnets.ops.layers import BatchNorm as BatchNorm
from jaxnets.ops.layers import Conv as Conv
from jaxnets.ops.layers import Dense as Dense
from jaxnets.ops.layers import LayerNorm as LayerNorm
from jaxnets.ops.layers import SqueezeExcitation as SqueezeExcitation
from jaxnets.ops.layers import StochasticDepth as StochasticDepth
from jaxnets.ops.layers import conv_norm as conv_norm
from jaxnets.ops.layers import is_folded as is_folded
from jaxnets.ops.layers import is_packed as is_packed
