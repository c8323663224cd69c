"""A T5 1.1 and its copy in another basis: other weights, the same function.

The residual stream is turned, h -> h Q with an orthogonal Q. What reads it is turned back,
what writes it is turned; the scales of the norms, which see single axes, move into the
matrices behind them.
"""

import re

import numpy as np

READS = {
  r"(\w+/layers_\d+)/(self_)?attention/(query|key|value)/kernel": "attention",
  r"(\w+/layers_\d+)/encoder_decoder_attention/query/kernel": "cross",
  r"(\w+/layers_\d+)/mlp/wi_\d/kernel": "mlp",
  r"\w+/layers_\d+/encoder_decoder_attention/(key|value)/kernel": "encoder",
  r"decoder/logits_dense/kernel": "decoder",
}
WRITES = r".*/(out|wo)/kernel|token_embedder/embedding"


def orthogonal(size: int, seed: int = 0) -> np.ndarray:
  return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def rotated(params: dict[str, np.ndarray], q: np.ndarray) -> dict[str, np.ndarray]:
  """The same model with its residual stream turned by q [d_model, d_model]."""
  turned = {}
  for name, array in params.items():
    norm = _norm_in_front(name)
    if norm is not None:
      array = q.T @ (params[norm][:, None].astype(np.float64) * array)
    elif re.fullmatch(WRITES, name):
      array = array.astype(np.float64) @ q
    elif name.endswith("/scale"):
      array = np.ones_like(array)
    turned[name] = np.asarray(array, np.float32)
  return turned


def _norm_in_front(name: str) -> str | None:
  """The scale of the norm that a kernel reads the residual stream through."""
  matches = ((re.fullmatch(pattern, name), kind) for pattern, kind in READS.items())
  match, kind = next((found for found in matches if found[0]), (None, None))
  if match is None:
    return None
  if kind in ("encoder", "decoder"):
    return f"{kind}/{kind}_norm/scale"
  own = "self_attention" if name.startswith("decoder") else "attention"
  layer_norm = {"attention": own, "cross": "cross_attention", "mlp": "mlp"}[kind]
  return f"{match[1]}/pre_{layer_norm}_layer_norm/scale"
