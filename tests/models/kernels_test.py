"""Kernels of attention: all agree, and gradients too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prompt_tuning.models import kernels
from prompt_tuning.models.parameters import Parameters, shapes_in
from prompt_tuning.models.t5 import T5
from prompt_tuning.types import Frozen, Tunable

BATCH, QUERIES, KEYS, HEADS, D_KV = 3, 130, 146, 2, 8


@pytest.fixture(scope="module")
def parts():
  """Queries, keys, values, and biases of which each has other axes of length 1."""
  keys = jax.random.split(jax.random.key(0), 5)
  queries = jax.random.normal(keys[0], (BATCH, QUERIES, HEADS, D_KV))
  both = [jax.random.normal(key, (BATCH, KEYS, HEADS, D_KV)) for key in keys[1:3]]
  position = jax.random.normal(keys[3], (1, HEADS, QUERIES, KEYS))
  hidden = jax.random.bernoulli(keys[4], 0.3, (BATCH, 1, QUERIES, KEYS))
  return queries, *both, [position, jnp.where(hidden, -1e10, 0.0)]


def outputs_and_gradients(kernel, queries, keys, values, biases):
  def total(*parts):
    found = kernel(*parts, biases)
    return jnp.sum(jnp.sin(found)), found

  of = jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)
  return jax.jit(of)(queries, keys, values)


def test_one_head_at_a_time_is_all_at_once(parts):
  (_, expected), gradients = outputs_and_gradients(kernels.plain, *parts)
  (_, found), ours = outputs_and_gradients(kernels.by_head, *parts)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
  for gradient, mine in zip(gradients, ours, strict=True):
    np.testing.assert_allclose(mine, gradient, rtol=1e-4, atol=3e-6)


def test_heads_that_do_not_fit_into_a_cache_together_take_turns():
  queries, keys = jnp.ones((1, 600, 2, 2)), jnp.ones((1, 700, 2, 2))
  bias = jax.random.normal(jax.random.key(0), (1, 2, 600, 700))
  values = jax.random.normal(jax.random.key(1), keys.shape)
  given = (queries, keys, values, [bias])
  found, expected = kernels.by_head(*given), kernels.plain(*given)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_it_keeps_no_weights_for_the_gradient(parts):
  def memory(kernel):
    def total(queries):
      return jnp.sum(jnp.sin(kernel(queries, *parts[1:])))

    compiled = jax.jit(jax.grad(total)).lower(parts[0]).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert memory(kernels.by_head) < 0.6 * memory(kernels.plain)


@pytest.mark.parametrize(
  ("kernel", "dtype", "shape"),
  [
    (kernels.by_head, "float32", (1, 3, 8)),
    (kernels.cudnn, "float32", (2, 4, 8)),
    (kernels.cudnn, "bfloat16", (1, 4, 8)),
    (kernels.cudnn, "bfloat16", (2, 3, 8)),
    (kernels.cudnn, "bfloat16", (2, 4, 12)),
    (kernels.cudnn, "bfloat16", (2, 4, 136)),
  ],
)
def test_what_a_kernel_cannot_do_is_done_plainly(kernel, dtype, shape):
  q, k, d_kv = shape
  keys = jnp.ones((2, k, 3, d_kv), dtype)
  given = (jnp.ones((2, q, 3, d_kv), dtype), keys, keys, [jnp.zeros((1, 1, q, k), dtype)])
  np.testing.assert_array_equal(kernel(*given), kernels.plain(*given))


@pytest.mark.parametrize(
  ("platform", "devices", "kernel"),
  [
    ("cpu", 1, kernels.by_head),
    ("cpu", 8, kernels.plain),
    ("gpu", 8, kernels.plain),  # none here is of the kind that cuDNN's attention needs
    ("tpu", 1, kernels.plain),
  ],
)
def test_each_platform_has_its_kernel(platform, devices, kernel):
  assert kernels.best(platform, devices) is kernel


def test_weights_that_learn_have_the_kernel_with_all_gradients(tiny_config):
  for kind, kernel in [(Frozen, kernels.by_head), (Tunable, kernels.plain)]:
    model = T5(tiny_config, Parameters.here(shapes_in("float32"), kind))
    assert model.encoder.layers_0.attention._kernel is kernel


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN needs a GPU")
@pytest.mark.parametrize("for_all_queries", [False, True])
def test_cudnn_agrees(parts, for_all_queries):
  parts = jax.tree.map(lambda x: x.astype(jnp.bfloat16), parts)
  queries, keys, values, biases = parts
  if for_all_queries:
    biases = [bias[:, :, :1] for bias in biases]
  expected = kernels.plain(queries, keys, values, biases)
  found = kernels.cudnn(queries, keys, values, biases)
  np.testing.assert_allclose(*map(np.float32, (found, expected)), rtol=0.03, atol=0.03)
