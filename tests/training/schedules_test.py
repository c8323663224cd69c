"""The learning-rate language against T5X's published values."""

import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning import checks
from prompt_tuning.training.schedules import Schedule


@pytest.mark.parametrize(
  ("step", "rate"), [(0, 1e-8), (1000, 0.0158114), (4000, 0.00790569)]
)
def test_the_default_has_t5x_s_values(step, rate):
  np.testing.assert_allclose(Schedule()(step), rate, rtol=1e-5)


@pytest.mark.parametrize(
  ("factors", "step", "rate"),
  [
    ("constant", 7, 0.5),
    ("linear_warmup", 5, 0.5),
    ("linear_decay", 5, 0.25),
    ("rsqrt_decay", 40, 40**-0.5),
    ("rsqrt_normalized_decay", 40, 0.5),
    ("constant * decay_every", 250, 0.125),
    ("constant*cosine_decay", 60, 0.25),
  ],
)
def test_each_factor(factors, step, rate):
  schedule = Schedule(
    factors=factors, warmup_steps=10, steps_per_decay=100, steps_per_cycle=100
  )
  np.testing.assert_allclose(schedule(step), rate, rtol=1e-5)


def test_the_offset_delays_everything():
  late = Schedule(step_offset=100)
  np.testing.assert_array_equal(late(jnp.asarray(600)), Schedule()(500))


def test_an_unknown_factor_names_the_nearest():
  with pytest.raises(checks.InputError, match="linear_warmup"):
    Schedule(factors="constant * linear_warm")
