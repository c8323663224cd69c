"""A prompted decoder-only model: peft's numbers, and each way to ask gives the same."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import LENGTHS, packed, per_example

from prompt_tuning import checks, partitioning, trees
from prompt_tuning.decoding.beam import Beam
from prompt_tuning.models import kernels, parameters
from prompt_tuning.models.llama import Llama
from prompt_tuning.models.llama_config import LlamaConfig
from prompt_tuning.models.parameters import Parameters
from prompt_tuning.partitioning import Partitioner
from prompt_tuning.prompts import masks
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted_lm import PromptedLM
from prompt_tuning.training import steps

CONFIG = LlamaConfig(
  vocab_size=64, d_model=16, num_heads=4, num_kv_heads=2, d_kv=8, d_ff=24, num_layers=2
)
PROMPTS = np.random.default_rng(1).normal(size=(2, 3, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def llama():
  return Llama.random(CONFIG, jax.random.key(0))


@pytest.fixture(scope="module")
def prompted(llama):
  return PromptedLM(llama, PromptBank(PROMPTS[0]))


def log_probs(model, batch, prompt_ids=None):
  """[batch, target_len] of the targets under teacher forcing, 0 at padding."""
  given = {**batch, **({} if prompt_ids is None else {"prompt_ids": prompt_ids})}
  logits = jax.nn.log_softmax(model.logits(**steps.features(given)), axis=-1)
  targets = jnp.asarray(batch["decoder_target_tokens"])
  taken = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  return jnp.where(targets > 0, taken, 0.0)


def alone(model, batch, example):
  """The log-probabilities of one example's targets: one sequence, nothing padded."""
  inputs, targets = LENGTHS[example]
  tokens = np.concatenate(
    [
      batch["encoder_input_tokens"][example, :inputs],
      batch["decoder_target_tokens"][example, :targets],
    ]
  )[None]
  x = jnp.concatenate([model.bank.array[:1], model.model.embed(tokens)], axis=1)
  length = x.shape[1]
  places = jnp.arange(length, dtype=jnp.int32)
  mask = (places[None, :] <= places[:, None])[None, None]
  logits = model.model.logits(model.model.hidden(x, mask, places[None]))
  first = model.prompt_len + inputs - 1
  found = jax.nn.log_softmax(logits[0, first : first + targets], axis=-1)
  return jnp.take_along_axis(found, tokens[0, inputs:, None], axis=-1)[:, 0]


def test_rows_say_what_each_sequence_says_alone(prompted, batch):
  found = log_probs(prompted, batch)
  for example, (_, targets) in enumerate(LENGTHS):
    np.testing.assert_allclose(
      found[example, :targets], alone(prompted, batch, example), rtol=1e-4, atol=1e-4
    )


def test_numbers_are_those_of_peft(tmp_path, batch):
  llama_files = pytest.importorskip("llama_files")
  peft = pytest.importorskip("peft", reason="peft is not installed; [hf] brings it")
  from prompt_tuning import formats, model_configs

  theirs = llama_files.model()
  with llama_files.torch.no_grad():
    for weight in theirs.parameters():
      weight.mul_(0.3)
  theirs.save_pretrained(tmp_path / "model")
  checkpoint = formats.load(str(tmp_path / "model"))
  model = Llama(model_configs.of(checkpoint), checkpoint)
  prompt = np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)
  how = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
  adapted = peft.get_peft_model(theirs, how).eval()
  embedding = adapted.prompt_encoder["default"].embedding
  embedding.weight.data = llama_files.torch.tensor(prompt)
  ours = PromptedLM(model, PromptBank(prompt))
  for example, (inputs, targets) in enumerate(LENGTHS):
    tokens = np.concatenate(
      [
        batch["encoder_input_tokens"][example, :inputs],
        batch["decoder_target_tokens"][example, :targets],
      ]
    )
    assert tokens.min() > 2  # ids of which theirs and ours are the same
    with llama_files.torch.no_grad():
      given = llama_files.torch.tensor(tokens[None]).long()
      logits = adapted(given).logits[0, 5 + inputs - 1 : -1].numpy()
    one = {name: x[example : example + 1] for name, x in batch.items()}
    found = ours.logits(**steps.features(one))[0, :targets]
    np.testing.assert_allclose(found[:, 3:], logits[:, 3:], rtol=1e-4, atol=1e-4)


def test_packed_is_unpacked_with_its_gradient(llama, batch):
  def of(rows):
    def total(prompt):
      return -jnp.sum(log_probs(PromptedLM(llama, PromptBank(prompt)), rows))

    return jax.jit(jax.value_and_grad(total))(PROMPTS[0])

  expected, expected_gradient = of(batch)
  found, gradient = of(packed(batch, 0, "prefix"))
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-5)
  assert np.abs(gradient).max() > 1e-2


def test_logits_of_packed_rows(prompted, batch):
  together = prompted.logits(**steps.features(packed(batch, 0, "prefix")))
  expected = prompted.logits(**steps.features(batch))
  for example, logits in per_example(together).items():
    real = expected[example, : LENGTHS[example][1]]
    np.testing.assert_allclose(logits, real, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", ["unpacked", "packed"])
def test_the_eos_that_tasks_append_to_inputs_is_not_read(prompted, batch, rows):
  inputs = batch["encoder_input_tokens"]
  ended = np.pad(inputs, ((0, 0), (0, 1)))
  lengths = (ended > 0).sum(axis=1)
  ended[np.arange(len(ended)), lengths] = 1
  if rows == "unpacked":
    given = {**batch, "encoder_input_tokens": ended}
    np.testing.assert_allclose(
      log_probs(prompted, given), log_probs(prompted, batch), rtol=1e-5, atol=1e-5
    )
    return
  whole, spaced = packed(batch, 0, "prefix"), {}
  for name in ("encoder_input_tokens", "encoder_segment_ids"):
    spaced[name] = np.zeros((2, 30), np.int32)
  for row in range(2):
    at = 0
    for segment in (1, 2):
      tokens = whole["encoder_input_tokens"][row][
        whole["encoder_segment_ids"][row] == segment
      ]
      place = slice(at, at + len(tokens) + 1)
      spaced["encoder_input_tokens"][row, place] = [*tokens, 1]
      spaced["encoder_segment_ids"][row, place] = segment
      at = place.stop
  np.testing.assert_allclose(
    log_probs(prompted, {**whole, **spaced}),
    log_probs(prompted, whole),
    rtol=1e-4,
    atol=1e-4,
  )


def test_candidates_are_scored_as_under_teacher_forcing(prompted, batch):
  inputs, targets = batch["encoder_input_tokens"], batch["decoder_target_tokens"]
  words = np.stack([targets, np.roll(targets, 1, axis=0), 0 * targets], axis=1)
  found = prompted.score_candidates(inputs, words)
  np.testing.assert_allclose(
    found[:, 0], log_probs(prompted, batch).sum(axis=1), rtol=1e-4, atol=1e-4
  )
  other = prompted.score(inputs, words[:, 1])
  np.testing.assert_allclose(found[:, 1], other, rtol=1e-4, atol=1e-4)
  assert (found[:, 2] == 0).all()


@pytest.mark.parametrize("decoding", ["greedy", Beam(num_decodes=2)])
def test_generation_is_the_whole_pass(prompted, batch, decoding):
  how = {} if decoding == "greedy" else {"decoding": decoding}
  inputs = batch["encoder_input_tokens"]
  tokens, scores = prompted.generate(inputs, 4, **how)
  rescored = prompted.score(inputs, tokens)
  if decoding == "greedy":
    np.testing.assert_allclose(scores, rescored, rtol=1e-4, atol=1e-4)
    shifted = jnp.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
    logits = prompted.logits(inputs, shifted, jnp.ones_like(tokens))
    best = jnp.argmax(logits, axis=-1)
    assert (jnp.where(tokens > 0, best, 0) == tokens).all()
  assert (rescored >= prompted.score(inputs, prompted.generate(inputs, 4)[0]) - 1e-4).all()


def test_rows_of_different_prompts(llama, batch):
  ids = np.array([1, 0, 1, 0], np.int32)
  together = PromptedLM(llama, PromptBank(PROMPTS))
  found = log_probs(together, batch, ids)
  inputs = batch["encoder_input_tokens"]
  tokens, _ = together.generate(inputs, 4, ids)
  context = together.encoded_prompts()
  kept = PromptedLM(llama, PromptBank(PROMPTS), context=context)
  np.testing.assert_allclose(
    kept.score(inputs, batch["decoder_target_tokens"], ids),
    found.sum(axis=1),
    rtol=1e-4,
    atol=1e-4,
  )
  for row, number in enumerate(ids):
    single = PromptedLM(llama, PromptBank(PROMPTS[number]))
    one = {name: x[row : row + 1] for name, x in batch.items()}
    np.testing.assert_allclose(found[row], log_probs(single, one)[0], rtol=1e-4, atol=1e-4)
    alone, _ = single.generate(one["encoder_input_tokens"], 4)
    assert (tokens[row] == alone[0]).all()


def test_prompts_of_different_lengths(llama, batch):
  short = PROMPTS[1][1:]
  together = PromptedLM(llama, PromptBank.of([PROMPTS[0], short]))
  ids = np.ones(4, np.int32)
  found = log_probs(together, batch, ids)
  expected = log_probs(PromptedLM(llama, PromptBank(short)), batch)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_embeddings_for_other_servers_are_what_the_layers_read(prompted, batch):
  inputs = batch["encoder_input_tokens"][:1, :10]
  x = prompted.embed(inputs)
  places = jnp.arange(x.shape[1], dtype=jnp.int32)[None]
  mask = jnp.tril(jnp.ones((1, 1, x.shape[1], x.shape[1]), bool))
  logits = prompted.model.logits(prompted.model.hidden(x, mask, places))
  first = {name: x[:1] for name, x in batch.items()}
  expected = prompted.logits(**steps.features(first))[0, 0]
  np.testing.assert_allclose(logits[0, -1], expected, rtol=1e-4, atol=1e-4)


def test_without_inputs_a_text_begins_with_id_0(llama):
  model = PromptedLM(llama)
  targets = np.array([[5, 6, 7]], np.int32)
  found = model.score(np.zeros((1, 4), np.int32), targets)
  mask = jnp.tril(jnp.ones((1, 1, 3, 3), bool))
  x = llama.embed(np.array([[0, 5, 6]], np.int32))
  places = jnp.arange(3, dtype=jnp.int32)[None]
  logits = jax.nn.log_softmax(llama.logits(llama.hidden(x, mask, places)), axis=-1)
  expected = jnp.take_along_axis(logits, targets[..., None], axis=-1).sum()
  np.testing.assert_allclose(found[0], expected, rtol=1e-4)


def test_heads_in_turns_have_the_same_gradient(batch):
  config = dataclasses.replace(CONFIG, num_layers=1)
  draw = parameters.random_from(jax.random.key(0))
  rows = {"encoder_input_tokens": np.tile(batch["encoder_input_tokens"], (1, 14))}
  rows = {
    **{name: x[:2] for name, x in batch.items()},
    "encoder_input_tokens": rows["encoder_input_tokens"][:2],
  }

  def of(kernel):
    model = Llama(config, Parameters(draw, kernel=kernel))

    def total(prompt):
      return -jnp.sum(log_probs(PromptedLM(model, PromptBank(prompt)), rows))

    return jax.jit(jax.value_and_grad(total))(PROMPTS[0])

  expected, found = of(kernels.plain), of(kernels.by_head)
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
  np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-5)


def test_weights_over_devices_say_the_same(llama, batch):
  layout = Partitioner(num_partitions=2).layout(4)
  params = trees.values(llama)
  placed = {
    path: partitioning.put(x, layout.sharding(v.get_metadata("axes")))
    for (path, x), v in zip(
      params.items(), trees.flat_variables(llama).values(), strict=True
    )
  }
  source = parameters.taken_from(placed)
  split = Llama(CONFIG, Parameters(source, constrain=layout.constrain))
  expected = log_probs(PromptedLM(llama, PromptBank(PROMPTS[0])), batch)
  rows = {
    name: partitioning.shard_batch({"x": x}, layout.mesh)["x"] for name, x in batch.items()
  }
  sharded = PromptedLM(split, PromptBank(PROMPTS[0]))
  found = jax.jit(lambda rows: log_probs(sharded, rows))(rows)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_another_visibility_is_refused(llama):
  with pytest.raises(checks.InputError, match="whose prompt sees only itself"):
    PromptedLM(llama, PromptBank(PROMPTS[0]), masks.FULL)


def test_half_of_the_segments_is_refused(prompted, batch):
  with pytest.raises(checks.InputError, match="expected both ids"):
    prompted.logits(
      batch["encoder_input_tokens"],
      batch["decoder_input_tokens"],
      batch["decoder_target_tokens"],
      encoder_segment_ids=batch["encoder_input_tokens"],
    )
