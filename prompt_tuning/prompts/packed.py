"""Rows of several examples, as a model is told of them."""

import dataclasses

import jax
import jax.numpy as jnp

from prompt_tuning import checks
from prompt_tuning.types import Array

EVERY = -1  # segment of what all segments see


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Packed:
  """How rows hold several examples, each a segment; see `data.packing`.

  Attributes:
    segment_ids: [batch, input_len] int32, from 1; 0 at padding.
    prompt_slots: [batch, input_len] int32, 1 + the place in the prompt, 0 at tokens; None
      where the rows leave no room for prompts.
    decoder_segment_ids: [batch, target_len] int32, the segments of the targets.
  """

  segment_ids: Array
  prompt_slots: Array | None
  decoder_segment_ids: Array

  @classmethod
  def given(
    cls,
    segment_ids: Array | None,
    decoder_segment_ids: Array | None,
    prompt_slots: Array | None = None,
  ) -> "Packed | None":
    """What a batch says of its rows; None where each holds one example.

    Raises:
      InputError: It says half of it.
    """
    if all(x is None for x in (segment_ids, decoder_segment_ids, prompt_slots)):
      return None
    if segment_ids is None or decoder_segment_ids is None:
      raise checks.InputError(
        "the batch has some of encoder_segment_ids, decoder_segment_ids and "
        "encoder_prompt_slots, expected both ids where rows are packed and none where "
        "they are not; give both"
      )
    return cls(segment_ids, prompt_slots, decoder_segment_ids)

  def positions(self) -> Array:
    """[batch, input_len] int32, from 0 in each segment."""
    return _positions(self.segment_ids)

  def decoder_positions(self) -> Array:
    """[batch, target_len] int32, from 0 in each segment."""
    return _positions(self.decoder_segment_ids)


def _positions(segment_ids: Array) -> Array:
  """[batch, length] int32, from 0 in each segment."""
  place = jnp.arange(segment_ids.shape[1], dtype=jnp.int32)[None]
  before = jnp.pad(segment_ids, ((0, 0), (1, 0)))[:, :-1]
  starts = jnp.where(segment_ids != before, place, 0)
  return place - jax.lax.cummax(starts, axis=1)
