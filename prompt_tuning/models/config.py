"""The numbers that make a T5: one frozen dataclass and the published sizes."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from prompt_tuning import checks
from prompt_tuning.models import remat
from prompt_tuning.types import Shape


@dataclasses.dataclass(frozen=True, kw_only=True)
class T5Config:
  """Shape and arithmetic of a T5.

  Attributes:
    vocab_size: Rows of the embedding table; T5 rounds the vocabulary up to 128.
    d_model: Width of the residual stream.
    num_heads: Attention heads. num_heads * d_kv need not equal d_model.
    d_kv: Width of one head.
    d_ff: Hidden width of the MLP.
    num_encoder_layers: Layers of the encoder.
    num_decoder_layers: Layers of the decoder.
    relative_buckets: Buckets of the relative position bias.
    relative_max_distance: Distance in tokens from which all share the last bucket.
    relative_per_layer: Whether each layer has its own position table, as scanned T5X
      models do, instead of one per tower.
    mlp_activations: ("gelu", "linear") is T5 1.1's gated MLP, ("relu",) T5 1.0's.
    tied_logits: Logits from the embedding table (T5 1.0) or from their own matrix.
    dropout_rate: Probability in [0, 1), used only where a dropout key is given.
    dtype: Of activations. Logits are float32, weights what they were loaded as.
    remat: What layers compute again for their gradients to save memory: "none",
      "minimal" (all but products with weights) or "full" (all but their inputs).
  """

  vocab_size: int = 32128
  d_model: int
  num_heads: int
  d_kv: int = 64
  d_ff: int
  num_encoder_layers: int
  num_decoder_layers: int
  relative_buckets: int = 32
  relative_max_distance: int = 128
  relative_per_layer: bool = False
  mlp_activations: tuple[str, ...] = ("gelu", "linear")
  tied_logits: bool = False
  dropout_rate: float = 0.0
  dtype: str = "float32"
  remat: str = "none"

  family: ClassVar[str] = "t5"

  def __post_init__(self):
    remat.check(self.remat)
    object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))

  @property
  def depth(self) -> int:
    """The largest number that divides the layers of both towers."""
    return math.gcd(self.num_encoder_layers, self.num_decoder_layers)

  def with_depth(self, depth: int) -> "T5Config":
    """The same with `depth` times the least equal share of the layers of both towers."""
    return dataclasses.replace(
      self,
      num_encoder_layers=self.num_encoder_layers // self.depth * depth,
      num_decoder_layers=self.num_decoder_layers // self.depth * depth,
    )

  def share(self, parts: int) -> "T5Config":
    """What one of `parts` devices sees of a model that is split over them."""
    return dataclasses.replace(
      self,
      num_heads=self.num_heads // parts,
      d_ff=self.d_ff // parts,
      vocab_size=self.vocab_size // parts,
    )

  @classmethod
  def from_gin(cls, *files: str, bindings: tuple[str, ...] = ()) -> "T5Config":
    """The config that gin files describe, e.g. "models/t5_1_1_base.gin"."""
    from prompt_tuning import config

    return config.query("MODEL", files, bindings)

  @classmethod
  def of_size(cls, family: str, size: str, **changes: Any) -> "T5Config":
    """A published size, e.g. `T5Config.of_size("t5_1_1", "base")`."""
    checks.choice("model family", family, list(SIZES))
    checks.choice(f"{family} size", size, list(SIZES[family]))
    return cls(**{**FAMILIES[family], **SIZES[family][size], **changes})

  @classmethod
  def of_shapes(cls, shapes: Mapping[str, Shape], **changes: Any) -> "T5Config":
    """The config of a checkpoint, from the shapes of its parameters.

    Args:
      shapes: {T5X path: shape}, e.g. `load_checkpoint(path).shapes`.
      **changes: Fields that shapes do not show, e.g. `load_checkpoint(path).facts`.

    Raises:
      InputError: They are not those of a T5.
    """
    try:
      vocab_size, d_model = shapes["token_embedder/embedding"]
      per_layer = "encoder/relpos_bias/rel_embedding" not in shapes
      layer = "layers_0/" if per_layer else ""
      num_heads, buckets = shapes[f"encoder/{layer}relpos_bias/rel_embedding"]
      joined = shapes["encoder/layers_0/attention/query/kernel"][1]
      d_ff = shapes["encoder/layers_0/mlp/wo/kernel"][0]
    except (KeyError, ValueError, IndexError) as error:
      raise checks.InputError(
        f"the parameters are not those of a T5 ({error} is missing or has another rank); "
        "choose a T5, mT5 or ByT5"
      ) from error
    gated = "encoder/layers_0/mlp/wi_0/kernel" in shapes
    found = {
      "vocab_size": vocab_size,
      "d_model": d_model,
      "num_heads": num_heads,
      "d_kv": joined // max(num_heads, 1),
      "d_ff": d_ff,
      "num_encoder_layers": _depth(shapes, "encoder"),
      "num_decoder_layers": _depth(shapes, "decoder"),
      "relative_buckets": buckets,
      "relative_per_layer": per_layer,
      "mlp_activations": ("gelu", "linear") if gated else ("relu",),
      "tied_logits": "decoder/logits_dense/kernel" not in shapes,
    }
    return cls(**{**found, **changes})


def _depth(shapes: Mapping[str, Shape], tower: str) -> int:
  """Layers of a tower."""
  return len({name.split("/")[1] for name in shapes if name.startswith(f"{tower}/layers_")})


def _size(d_model, num_heads, d_ff, encoder_layers, decoder_layers=None, d_kv=64):
  return {
    "d_model": d_model,
    "num_heads": num_heads,
    "d_kv": d_kv,
    "d_ff": d_ff,
    "num_encoder_layers": encoder_layers,
    "num_decoder_layers": decoder_layers or encoder_layers,
  }


_T5_1_1 = {
  "small": _size(512, 6, 1024, 8),
  "base": _size(768, 12, 2048, 12),
  "large": _size(1024, 16, 2816, 24),
  "xl": _size(2048, 32, 5120, 24),
  "xxl": _size(4096, 64, 10240, 24),
}

FAMILIES: dict[str, dict[str, Any]] = {
  "t5_1_0": {"vocab_size": 32128, "mlp_activations": ("relu",), "tied_logits": True},
  "t5_1_1": {"vocab_size": 32128},
  "mt5": {"vocab_size": 250112},
  "byt5": {"vocab_size": 384},
}

SIZES: dict[str, dict[str, dict[str, Any]]] = {
  "t5_1_0": {
    "small": _size(512, 8, 2048, 6),
    "base": _size(768, 12, 3072, 12),
    "large": _size(1024, 16, 4096, 24),
    "3b": _size(1024, 32, 16384, 24, d_kv=128),
    "11b": _size(1024, 128, 65536, 24, d_kv=128),
  },
  "t5_1_1": _T5_1_1,
  "mt5": {**_T5_1_1, "80b": _size(8192, 256, 65536, 16)},
  "byt5": {
    "small": _size(1472, 6, 3584, 12, 4),
    "base": _size(1536, 12, 3968, 18, 6),
    "large": _size(1536, 16, 3840, 36, 12),
    "xl": _size(2560, 32, 6720, 36, 12),
    "xxl": _size(4672, 64, 12352, 36, 12),
  },
}
