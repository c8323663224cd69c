"""What a method may do to a frozen model beside its prompts, part by part.

Each part is a module of its own (`methods/` has them), each may be missing, and the model
that takes them (`prompted`) knows nothing else of a method:

  sentinel   which prompt an example has         by its first token
  router     which prompts, and how much of each by what the example says
  offset     what is added to token embeddings
  layers     what is done to the slots of the prompt at the input of each encoder layer
  first      the encoder layer in front of which the prompt comes in
  fronts     keys and values in front of all others, layer by layer
  penalty    what is added to the loss
"""

from typing import Protocol

import numpy as np
from flax import nnx

from prompt_tuning.models.context import Context, Fronts
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.types import Array


class Sentinel(Protocol):
  """Says which prompt each example asks for."""

  def __call__(self, tokens: Array) -> tuple[Array, Array]:
    """Tokens [batch, length] -> those without the sentinel, and prompt_ids [batch]."""

  def check(self, tokens: np.ndarray) -> None:
    """Raises `InputError` where tokens [..., length] ask for no prompt that there is."""


class Router(Protocol):
  """Mixes the prompts of a bank for each example."""

  def __call__(self, embeddings: Array, valid: Array, prompts: Array) -> Array:
    """How much of each prompt an example gets.

    Args:
      embeddings: [batch, input_len, d_model].
      valid: [batch, input_len] bool.
      prompts: [num_prompts, prompt_len, d_model].

    Returns:
      [batch, num_prompts] float32.
    """


class Offset(Protocol):
  """Changes token embeddings."""

  def __call__(self, embeddings: Array, positions: Array, longest: int) -> Array:
    """What the encoder reads instead of them.

    Args:
      embeddings: [rows, length, d_model].
      positions: [rows or 1, length] int32, of each token in its example.
      longest: Tokens that an example may have.

    Returns:
      [rows, length, d_model].
    """


class Layers(Protocol):
  """Changes what runs into the encoder's layers, in the slots of the prompt."""

  def __call__(self, number: int, x: Array, slots: Array) -> Array:
    """What runs into layer `number`.

    Args:
      number: From 0.
      x: [batch, length, d_model].
      slots: [batch or 1, length] int32, 1 + the place in the prompt; 0 at tokens.
    """


class KeyValueFronts(Protocol):
  """Keys and values in front of what every layer attends to."""

  def encoder(self) -> Context:
    """Of the encoder, one group for all rows."""

  def decoder(self) -> Fronts:
    """Of the decoder."""


class Penalty(Protocol):
  """A price of prompts."""

  def __call__(self, bank: PromptBank) -> Array:
    """float32 scalar, added to the loss of a batch."""


class Steering(nnx.Module):
  """The parts of one method; see above."""

  def __init__(
    self,
    *,
    sentinel: Sentinel | None = None,
    router: Router | None = None,
    offset: Offset | None = None,
    layers: Layers | None = None,
    first: int = 0,
    fronts: KeyValueFronts | None = None,
    penalty: Penalty | None = None,
  ):
    self.sentinel = nnx.data(sentinel)
    self.router = nnx.data(router)
    self.offset = nnx.data(offset)
    self.layers = nnx.data(layers)
    self.first = first
    self.fronts = nnx.data(fronts)
    self.penalty = nnx.data(penalty)
