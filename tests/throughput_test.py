"""Speed: what is counted, and that a share of the peak is one."""

import jax
import jax.numpy as jnp
import pytest

from prompt_tuning import throughput
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training import steps


def test_the_count_is_near_what_the_compiler_counts(tiny_config, tiny_t5):
  """The forward pass of a batch; the compiler counts elementwise work as well."""
  rows, input_len, target_len = 4, 64, 32
  tokens = jnp.ones((rows, input_len), jnp.int32)
  targets = jnp.ones((rows, target_len), jnp.int32)
  batch = {
    "encoder_input_tokens": tokens,
    "decoder_input_tokens": targets,
    "decoder_target_tokens": targets,
  }
  forward = jax.jit(lambda batch: PromptedT5(tiny_t5).logits(**steps.features(batch)))
  counted = forward.lower(batch).compile().cost_analysis()["flops"]
  ours = throughput.training_flops(tiny_config, rows, input_len, target_len) / 3
  assert 0.5 * counted < ours <= counted


def test_it_grows_with_rows_and_lengths(tiny_config):
  one = throughput.training_flops(tiny_config, 1, 8, 4)
  assert throughput.training_flops(tiny_config, 3, 8, 4) == 3 * one
  assert throughput.training_flops(tiny_config, 1, 16, 4) > one


def test_a_report_is_work_over_time():
  meter = throughput.Meter(steps=2, positions=400, tokens=300, flops=6e9, seconds=2.0)
  found = meter.report(peak=30e9)
  assert found["tokens_per_second"] == 150
  assert found["real_token_fraction"] == 0.75
  assert found["gflops_per_second"] == pytest.approx(3.0)
  assert found["fraction_of_peak"] == pytest.approx(0.1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_peak_is_a_speed(dtype):
  assert 1e8 < throughput.matmul_peak(dtype) < 1e16
