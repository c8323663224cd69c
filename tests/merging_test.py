"""Merging: a plain model with other weights answers as the steered one did."""

import weakref

import jax
import ml_dtypes
import numpy as np
import pytest
from etils import epath

from prompt_tuning import (
  assembly,
  checks,
  formats,
  merging,
  model_configs,
  trees,
)
from prompt_tuning.checkpoints import t5x
from prompt_tuning.checkpoints.leaves import Inline
from prompt_tuning.cli import main as cli
from prompt_tuning.convert import Options
from prompt_tuning.data.vocabularies import Bytes
from prompt_tuning.method_tuning import MethodTuning
from prompt_tuning.methods.ia3 import IA3
from prompt_tuning.methods.lora import LoRA
from prompt_tuning.methods.prefix import PrefixTuning
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training.state import Split

ALL = ("query", "key", "value", "out", "wi_0", "wi_1", "wo")
METHODS = {
  "ia3": IA3(),
  "lora": LoRA(rank=2),
  "lora_all": LoRA(rank=3, alpha=3.0, targets=ALL),
}


@pytest.fixture(scope="module")
def base(byte_t5):
  return assembly.Base.of(byte_t5, 7)


@pytest.fixture(scope="module")
def model(tmp_path_factory, base):
  """A folder with the checkpoint of `base`."""
  folder = tmp_path_factory.mktemp("model")
  t5x.save(epath.Path(folder), trees.values(base.model), 7)
  return str(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, base):
  """The MODEL_DIR of each method, and the model that wrote it."""

  def of(method):
    folder = epath.Path(tmp_path_factory.mktemp(method.name))
    start = assembly.steered(base, method, Bytes(), jax.random.key(1))
    model, learned = moved(start)
    story = {"base_fingerprint": base.fingerprint, "step": 30}
    MethodTuning(method=method).save_best(folder, learned, story)
    return str(folder), model

  return of


def moved(model):
  """A model with numbers in place of what training would have found, and these."""
  split = Split.of(model)
  rng = np.random.default_rng(5)
  learned = {
    path: x + rng.normal(0.0, 0.3, x.shape).astype(np.float32)
    for path, x in trees.values(split.tunable).items()
  }
  return split.merge(learned, split.frozen), learned


@jax.jit
def logits(model, inputs, decoder_inputs, targets):
  return model.logits(inputs, decoder_inputs, targets)


def answers(model, batch):
  names = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
  return np.asarray(logits(model, *(batch[name] for name in names)))


@pytest.mark.parametrize("name", METHODS)
def test_the_merged_model_answers_as_the_steered_one(
  base, model, trained, batch, tmp_path, name
):
  source, steered = trained(METHODS[name])
  path = merging.merge(source, str(tmp_path / "merged"), model)
  assert path == str(tmp_path / "merged" / "checkpoint_7")
  found = T5(base.model.config, formats.load(path))
  expected = answers(steered, batch)
  np.testing.assert_allclose(
    answers(PromptedT5(found), batch), expected, rtol=1e-5, atol=1e-5
  )
  assert np.abs(expected - answers(PromptedT5(base.model), batch)).max() > 0.1


def test_only_what_learned_beside_it_becomes_another(model, trained, tmp_path):
  source, _ = trained(IA3())
  merged = formats.load(merging.merge(source, str(tmp_path / "merged"), model))
  before = formats.load(model)
  assert merged.shapes == before.shapes
  changed = {name for name in before if np.any(merged[name] != before[name])}
  layers = [f"encoder/layers_0/attention/{name}/kernel" for name in ("key", "value")]
  layers += [f"{tower}/layers_0/mlp/wo/kernel" for tower in ("encoder", "decoder")]
  for attention in ("self_attention", "encoder_decoder_attention"):
    layers += [f"decoder/layers_0/{attention}/{x}/kernel" for x in ("key", "value")]
  assert changed == set(layers)


def test_weights_are_read_one_after_the_other(model, trained, tmp_path, monkeypatch):
  """Never is more than one of them, and what becomes of it, in memory."""
  alive, most = [], []
  read = merging.Changed.read

  def counted(self, *given):
    alive.append(weakref.ref(found := read(self, *given)))
    most.append(sum(one() is not None for one in alive))
    return found

  monkeypatch.setattr(merging.Changed, "read", counted)
  source, _ = trained(IA3())
  merging.merge(source, str(tmp_path / "merged"), model)
  assert len(most) == 8 and max(most) <= 2


def test_dtype_and_step_are_as_asked(model, trained, tmp_path):
  source, _ = trained(LoRA(rank=2))
  options = Options(dtype="bfloat16", step=5)
  path = merging.merge(source, str(tmp_path / "merged"), model, options)
  found = formats.load(path)
  assert found.step == 5 and path.endswith("checkpoint_5")
  exact = formats.load(merging.merge(source, str(tmp_path / "exact"), model))
  for name, leaf in found.leaves.items():
    assert leaf.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(leaf.read(), exact[name].astype(ml_dtypes.bfloat16))


def test_what_lies_in_bfloat16_is_rounded_once_and_read_in_parts():
  kernel = np.random.default_rng(0).normal(size=(4, 6)).astype(ml_dtypes.bfloat16)
  exact = kernel.astype(np.float32) * np.float32(1.01) + np.float32(0.003)
  changed = merging.Changed(Inline(kernel), lambda x: x * np.float32(1.01) + 0.003)
  assert changed.shape == (4, 6) and changed.dtype == ml_dtypes.bfloat16
  found = changed.read(dtype=np.dtype(np.float32))
  np.testing.assert_array_equal(found, exact, strict=True)
  rounded = exact.astype(ml_dtypes.bfloat16)
  np.testing.assert_array_equal(changed.read(), rounded, strict=True)
  part = (slice(1, 3), slice(2, 6))
  np.testing.assert_array_equal(changed.read(part), rounded[part], strict=True)


def test_another_method_is_refused_by_name(model, trained, tmp_path):
  source, _ = trained(PrefixTuning(length=2))
  with pytest.raises(checks.InputError, match="the method prefix, expected ia3 or lora"):
    merging.merge(source, str(tmp_path / "merged"), model)
  assert not (tmp_path / "merged").exists()


def test_another_model_is_refused(base, trained, tmp_path):
  source, _ = trained(IA3())
  other = T5.random(base.model.config, jax.random.key(9))
  t5x.save(epath.Path(tmp_path), trees.values(other), 7)
  with pytest.raises(checks.InputError, match="choose the --model it was trained for"):
    merging.merge(source, str(tmp_path / "merged"), str(tmp_path))


def test_a_model_of_another_size_is_refused(trained, tiny_t5, tmp_path):
  source, _ = trained(IA3())
  t5x.save(epath.Path(tmp_path), trees.values(tiny_t5), 7)
  with pytest.raises(checks.InputError, match="does not fit the model"):
    merging.merge(source, str(tmp_path / "merged"), str(tmp_path))


@pytest.mark.parametrize("options", [Options(dtype="int8"), Options(step=-1)])
def test_options_without_sense_are_refused(model, trained, tmp_path, options):
  source, _ = trained(IA3())
  with pytest.raises(checks.InputError, match=r"int8|--step is -1"):
    merging.merge(source, str(tmp_path / "merged"), model, options)


def test_what_is_no_method_is_refused(model, tmp_path):
  with pytest.raises(checks.InputError, match="holds no method"):
    merging.merge(model, str(tmp_path / "merged"), model)


def test_nothing_is_overwritten(model, trained, tmp_path):
  source, _ = trained(IA3())
  merging.merge(source, str(tmp_path / "merged"), model)
  with pytest.raises(checks.InputError, match="checkpoint_7"):
    merging.merge(source, str(tmp_path / "merged"), model)


def test_the_line_in_the_help_works(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(SystemExit):
    cli.main(["merge", "--help"])
  line = capsys.readouterr().out.strip().splitlines()[-1].split()[1:]
  model = T5.random(model_configs.of(formats.load(line[-1])), jax.random.key(0))
  start = assembly.steered(assembly.Base.of(model), IA3(), Bytes(), jax.random.key(1))
  _, learned = moved(start)
  epath.Path(line[1]).mkdir(parents=True)
  MethodTuning(method=IA3()).save_best(epath.Path(line[1]), learned, {})
  assert cli.main(line) == 0
  written = capsys.readouterr().out.strip()
  assert written.startswith(line[2])
  assert formats.load(written).shapes == formats.load(line[-1]).shapes
