"""The MLP beside a prompt: the paper's formula, and settings that cannot be."""

import jax
import numpy as np
import pytest

from prompt_tuning import checks
from prompt_tuning.methods.residual import Residual, ResidualMLP
from prompt_tuning.prompts.start import Prompt


def test_it_is_the_paper_s_formula():
  mlp = ResidualMLP.random(jax.random.key(0), 8, 5)
  prompts = jax.random.normal(jax.random.key(1), (2, 3, 8)) * 4
  mlp.scale[...], mlp.bias[...] = jax.random.normal(jax.random.key(2), (2, 8))
  x = np.asarray(prompts, np.float64)
  hidden = np.maximum(x @ np.asarray(mlp.down[...]) + np.asarray(mlp.down_bias[...]), 0)
  y = hidden @ np.asarray(mlp.up[...]) + np.asarray(mlp.up_bias[...])
  y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5)
  expected = x + y * np.asarray(mlp.scale[...]) + np.asarray(mlp.bias[...])
  np.testing.assert_allclose(mlp(prompts), expected, rtol=1e-4, atol=1e-5)


def test_tokens_share_it_and_do_not_mix():
  mlp = ResidualMLP.random(jax.random.key(0), 8, 5)
  prompts = jax.random.normal(jax.random.key(1), (1, 3, 8))
  np.testing.assert_allclose(mlp(prompts)[:, 1:2], mlp(prompts[:, 1:2]), rtol=1e-5)


@pytest.mark.parametrize("bottleneck", [0, -3, 2.5, None])
def test_a_bottleneck_without_units_is_refused(bottleneck):
  with pytest.raises(checks.InputError, match="RESIDUAL_BOTTLENECK is"):
    Residual(prompt=Prompt(length=3), bottleneck=bottleneck)
