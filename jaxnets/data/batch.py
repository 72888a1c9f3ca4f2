"""What examples and batches hold."""

from typing import Any

Example = dict[str, Any]
"""Kind "image": {"image": uint8[H, W, C], "label": int32[], "index": int64[]}.
Kind "vector": {"input": float[D], "label": float[K], "index": int64[]}."""

Batch = dict[str, Any]
"""Arrays of examples in host or device memory; a call of several steps has [K, B] for [B].

"image" uint8[B, H, W, C], or "input" float[B, D] of vectors, or "features" float32[B, h, w, C] of a frozen
backbone; "label" int32[B] of classes or float[B, K]; "index" int64[B] in the source; "epoch" int32[B];
"weight" float32[B], 0 for padding; "repetition" int32[B] of balanced sampling, see `EpochSampler`. A custom
preprocessing may need more.
"""

FEATURES = "features"
"""The key that replaces "image" in examples with cached features of a frozen backbone."""
