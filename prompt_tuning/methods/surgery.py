"""A frozen model with some of its layers wrapped, and the original left as it is."""

from collections.abc import Callable, Iterator
from typing import Any

from flax import nnx

from prompt_tuning.models.attention import Attention
from prompt_tuning.models.layers import MLP, Dense
from prompt_tuning.models.t5 import T5


def copied(model: T5) -> T5:
  """Another module with the same arrays: what is wrapped in it is not in `model`."""
  return nnx.merge(*nnx.split(model))


def wrap(owner: nnx.Module, name: str, wrapper: Callable[[Any], nnx.Module]) -> None:
  """Puts what `wrapper` makes of a part of `owner` in its place."""
  setattr(owner, name, wrapper(getattr(owner, name)))


def attentions(model: T5) -> Iterator[Attention]:
  """The attentions of all layers: encoder, then decoder, self- before cross-attention."""
  yield from (layer.attention for layer in model.encoder.layers())
  for layer in model.decoder.layers():
    yield layer.self_attention
    yield layer.encoder_decoder_attention


def mlps(model: T5) -> Iterator[MLP]:
  """The MLPs of all layers: encoder, then decoder."""
  yield from (layer.mlp for layer in model.encoder.layers())
  yield from (layer.mlp for layer in model.decoder.layers())


def projections(owner: nnx.Module) -> list[str]:
  """The names under which an attention or MLP has its matrices."""
  return [name for name, part in vars(owner).items() if isinstance(part, Dense)]
