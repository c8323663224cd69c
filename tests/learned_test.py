"""What a run learns: the best state is kept alone, and read back as it was."""

import jax
import numpy as np
import optax
import pytest
from etils import epath

from prompt_tuning.learned import ModelTuning, PromptTuning
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.start import Prompt
from prompt_tuning.training.state import Split, create
from prompt_tuning.types import Tunable


@pytest.mark.parametrize("num_prompts", [1, 3])
def test_the_best_prompt_is_read_back_bit_for_bit(tmp_path, num_prompts):
  learned = PromptTuning(prompt=Prompt(length=4, num_prompts=num_prompts))
  params = {"bank/prompts": jax.random.normal(jax.random.key(0), (num_prompts, 4, 16))}
  learned.save_best(epath.Path(tmp_path), params, {"step": 3})
  found = learned.load_best(epath.Path(tmp_path))
  assert found.keys() == params.keys()
  np.testing.assert_array_equal(found["bank/prompts"], params["bank/prompts"])


def test_the_best_model_is_read_back_bit_for_bit_and_stands_alone(tmp_path, tiny_config):
  learned = ModelTuning()
  for step, seed in ((3, 0), (5, 1)):
    model = PromptedT5(T5.random(tiny_config, jax.random.key(seed), Tunable))
    optimizer = learned.optimizer(optax.identity())
    params = create(Split.of(model), optimizer, jax.random.key(0)).params
    learned.save_best(epath.Path(tmp_path), params, {"step": step})
  assert [path.name for path in learned.best(tmp_path).iterdir()] == ["checkpoint_5"]
  found = learned.load_best(epath.Path(tmp_path))
  assert found.keys() == params.keys()
  for path, array in params.items():
    np.testing.assert_array_equal(found[path], array)
