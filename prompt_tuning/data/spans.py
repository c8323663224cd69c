"""How many tokens and spans an objective hides, and how long that makes its examples.

Raffel et al. 2020, sections 3.1.4 and 3.3: of `raw` tokens the nearest integer to
`raw * density` is hidden, in spans whose mean length is given. One EOS is counted in
inputs and in targets.
"""

import dataclasses
import math

import numpy as np

from prompt_tuning import checks

SPAN_KINDS = ("span_corruption", "text_infilling")  # they need sentinels
KINDS = (*SPAN_KINDS, "prefix_lm", "token_deletion", "labelled")


@dataclasses.dataclass(frozen=True)
class Noise:
  """What is hidden.

  Attributes:
    density: Share of tokens, between 0 and 1.
    mean_span: Mean tokens of a hidden span, at least 1.
  """

  density: float = 0.15
  mean_span: float = 3.0

  def __post_init__(self):
    if not 0.0 < self.density < 1.0 or self.mean_span < 1.0:
      raise checks.InputError(
        f"the noise density is {self.density} and the mean span {self.mean_span}, expected "
        "a share between 0 and 1 and at least one token; T5 uses 0.15 and 3"
      )

  def counts(self, raw: int) -> tuple[int, int]:
    """Hidden tokens and hidden spans among `raw` tokens, at least one of each."""
    # float32 as in the preprocessors, which round 28.5 the same way only then.
    wanted = np.rint(np.float32(raw) * np.float32(self.density))
    hidden = min(max(int(wanted), 1), raw - 1)
    count = np.rint(np.float32(hidden) / np.float32(self.mean_span))
    return hidden, min(max(int(count), 1), hidden, raw - hidden)

  def corrupted_len(self, raw: int) -> int:
    """Tokens left when each hidden span is one sentinel."""
    hidden, spans = self.counts(raw)
    return raw - hidden + spans + 1


T5_NOISE = Noise()


def raw_len(kind: str, input_len: int, noise: Noise) -> int:
  """Tokens of text that make one example.

  Span corruption takes as many as fill `input_len` once corrupted; every other kind
  what fits before anything is hidden.

  Raises:
    InputError: The length is too short for one hidden span.
  """
  least = max(2, math.ceil(0.5 / noise.density))  # fewest of which one token is hidden
  needed = noise.corrupted_len(least) if kind == "span_corruption" else least + 1
  if input_len < needed:
    raise checks.InputError(
      f"inputs of {input_len} tokens are too short for one hidden span at density "
      f"{noise.density}, expected at least {needed}; raise the length of the inputs"
    )
  if kind != "span_corruption":
    return input_len - 1
  raw = least
  while noise.corrupted_len(raw + 1) <= input_len:
    raw += 1
  return raw


def check_room(kind: str, raw: int, room: int, noise: Noise) -> None:
  """Raises `InputError` unless targets of `room` tokens hold what `raw` tokens become."""
  needed = target_len(kind, raw, noise)
  if room < needed:
    raise checks.InputError(
      f"{kind} of {raw} tokens makes targets of {needed}, expected room for them, found "
      f"{room}; raise the length of the targets"
    )


def target_len(kind: str, raw: int, noise: Noise) -> int:
  """Least room that the targets of `raw` tokens need, EOS included."""
  if kind == "span_corruption":
    return sum(noise.counts(raw)) + 1
  return 2 if kind in ("prefix_lm", "labelled") else raw + 1
