"""LoRA: nothing at first, then a change of the named projections."""

import numpy as np
import pytest
from given import features, given, logits

from prompt_tuning import checks, trees
from prompt_tuning.methods.lora import LoRA
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training import state


def learned(model):
  return trees.values(state.Split.of(model).tunable)


def test_it_starts_as_the_untuned_model(tiny_t5, batch):
  found = LoRA(rank=2, targets=["query", "value", "wo"]).steered(given(tiny_t5))
  expected = logits(PromptedT5(tiny_t5), *features(batch))
  np.testing.assert_array_equal(logits(found, *features(batch)), expected)


def test_the_change_is_alpha_over_rank_times_a_b(tiny_t5):
  model = LoRA(rank=2, alpha=6.0, targets=["query"]).steered(given(tiny_t5)).model
  layer = model.encoder.layers_1.attention.query
  rng = np.random.default_rng(0)
  b, x = (rng.normal(size=s).astype(np.float32) for s in ((2, 16), (2, 3, 16)))
  layer.lora_b[...] = b
  kernel = np.asarray(layer.dense.kernel[...]) + 3.0 * np.asarray(layer.lora_a[...]) @ b
  np.testing.assert_allclose(layer(x), x @ kernel, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("targets", [("query", "value"), ("out",), ("wi_0", "wi_1", "wo")])
def test_the_named_projections_learn_in_every_layer(tiny_t5, targets):
  paths = learned(LoRA(targets=targets).steered(given(tiny_t5)))
  attention = {"query", "value", "out"} & set(targets)
  owners = {path.rpartition("/")[0] for path in paths}
  assert {owner.rpartition("/")[2] for owner in owners} == set(targets)
  assert len(owners) == len(targets) * (6 if attention else 4)


def test_the_model_itself_stays_as_it_was(tiny_t5):
  LoRA().steered(given(tiny_t5))
  assert learned(tiny_t5) == {} and not hasattr(
    tiny_t5.encoder.layers_0.attention.query, "dense"
  )


def test_an_unknown_target_is_refused(tiny_t5):
  with pytest.raises(checks.InputError, match="unknown projection in LORA_TARGETS 'quary'"):
    LoRA(targets=["query", "quary"]).steered(given(tiny_t5))


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"rank": 0}, "LORA_RANK is 0"),
    ({"rank": 1.5}, "LORA_RANK is 1.5"),
    ({"alpha": -1.0}, "LORA_ALPHA"),
    ({"targets": []}, r"LORA_TARGETS is \[\], expected a list of texts"),
    ({"targets": 3}, "LORA_TARGETS is 3, expected a list of texts"),
    ({"targets": "query"}, "LORA_TARGETS is 'query', expected a list of texts"),
    ({"targets": ["query", 3]}, "expected a list of texts"),
  ],
)
def test_settings_without_sense_are_refused(settings, message):
  with pytest.raises(checks.InputError, match=message):
    LoRA(**settings)
