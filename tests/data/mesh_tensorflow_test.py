"""Mesh TensorFlow: real TensorFlow checkpoints under T5X's names."""

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from etils import epath

from prompt_tuning import checks, formats
from prompt_tuning.data import mesh_tensorflow
from prompt_tuning.models.config import T5Config

D_MODEL, HEADS, D_KV, D_FF, VOCABULARY, BUCKETS, LAYERS = 4, 2, 3, 6, 10, 5, 2
_STACKS = {
  "encoder": ("SelfAttention", "DenseReluDense"),
  "decoder": ("SelfAttention", "EncDecAttention", "DenseReluDense"),
}
_SHAPES = {"q": (D_MODEL, HEADS * D_KV), "o": (HEADS * D_KV, D_MODEL)}
_SHAPES |= {"k": _SHAPES["q"], "v": _SHAPES["q"]}


def t5_of(gated):
  """{Mesh TensorFlow name: array} of T5 1.1 (gated, its own logits) or T5 1.0."""
  shapes = {"shared/embedding": (VOCABULARY, D_MODEL)}
  for tower, parts in _STACKS.items():
    shapes[f"{tower}/final_layer_norm/scale"] = (D_MODEL,)
    positions = f"{tower}/block_000/layer_000/SelfAttention/relative_attention_bias"
    shapes[positions] = (HEADS, BUCKETS)
    for block in range(LAYERS):
      for number, part in enumerate(parts):
        here = f"{tower}/block_{block:03d}/layer_{number:03d}"
        shapes[f"{here}/layer_norm/scale"] = (D_MODEL,)
        if part == "DenseReluDense":
          for kernel in ("wi_0", "wi_1") if gated else ("wi",):
            shapes[f"{here}/{part}/{kernel}/kernel"] = (D_MODEL, D_FF)
          shapes[f"{here}/{part}/wo/kernel"] = (D_FF, D_MODEL)
        else:
          shapes |= {f"{here}/{part}/{letter}": shape for letter, shape in _SHAPES.items()}
  if gated:
    shapes["decoder/logits/kernel"] = (D_MODEL, VOCABULARY)
  rng = np.random.default_rng(0)
  return {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}


def with_slots(arrays, step):
  """The same beside Adafactor's slots, as a training job leaves them."""
  found = {**arrays, "global_step": np.int64(step)}
  for name, array in arrays.items():
    for slot in ("v",) if array.ndim == 1 else ("vr", "vc"):
      found[f"{name}_slot_{slot}"] = np.zeros(3, np.float32)
  return found


def save(prefix, variables):
  """Writes <prefix>.index and its data as TensorFlow does."""
  prefix.parent.mkdir(parents=True, exist_ok=True)
  tf.raw_ops.SaveV2(
    prefix=str(prefix),
    tensor_names=list(variables),
    shape_and_slices=[""] * len(variables),
    tensors=[tf.constant(array) for array in variables.values()],
  )


@pytest.fixture(params=[True, False], ids=["T5 1.1", "T5 1.0"])
def t5(request):
  return t5_of(request.param)


def test_every_variable_has_t5x_s_name_and_its_value(tmp_path, t5):
  save(tmp_path / "model.ckpt-1000", with_slots(t5, 1000))
  found = formats.load(str(tmp_path / "model.ckpt-1000"))
  assert found.format == "Mesh TensorFlow" and found.step == 1000
  assert len(found) == len(t5)
  gated = "decoder/logits/kernel" in t5
  here, there = "decoder/block_001", "decoder/layers_1"
  first, second = "encoder/block_000", "encoder/block_001"
  names = {
    "shared/embedding": "token_embedder/embedding",
    "encoder/final_layer_norm/scale": "encoder/encoder_norm/scale",
    "decoder/final_layer_norm/scale": "decoder/decoder_norm/scale",
    f"{first}/layer_000/SelfAttention/relative_attention_bias": (
      "encoder/relpos_bias/rel_embedding"
    ),
    "decoder/block_000/layer_000/SelfAttention/relative_attention_bias": (
      "decoder/relpos_bias/rel_embedding"
    ),
    f"{first}/layer_000/SelfAttention/q": "encoder/layers_0/attention/query/kernel",
    f"{second}/layer_000/SelfAttention/k": "encoder/layers_1/attention/key/kernel",
    f"{second}/layer_000/layer_norm/scale": (
      "encoder/layers_1/pre_attention_layer_norm/scale"
    ),
    f"{second}/layer_001/layer_norm/scale": ("encoder/layers_1/pre_mlp_layer_norm/scale"),
    f"{second}/layer_001/DenseReluDense/wo/kernel": ("encoder/layers_1/mlp/wo/kernel"),
    f"{here}/layer_000/SelfAttention/v": f"{there}/self_attention/value/kernel",
    f"{here}/layer_001/EncDecAttention/o": f"{there}/encoder_decoder_attention/out/kernel",
    f"{here}/layer_000/layer_norm/scale": f"{there}/pre_self_attention_layer_norm/scale",
    f"{here}/layer_001/layer_norm/scale": f"{there}/pre_cross_attention_layer_norm/scale",
    f"{here}/layer_002/layer_norm/scale": f"{there}/pre_mlp_layer_norm/scale",
  }
  for kernel in ("wi_0", "wi_1") if gated else ("wi",):
    names[f"{here}/layer_002/DenseReluDense/{kernel}/kernel"] = (
      f"{there}/mlp/{kernel}/kernel"
    )
  if gated:
    names["decoder/logits/kernel"] = "decoder/logits_dense/kernel"
  for theirs, ours in names.items():
    np.testing.assert_array_equal(found[ours], t5[theirs])
    assert found.leaves[ours].dtype == np.float32


def test_the_names_are_exactly_those_of_the_model(tmp_path, t5):
  from prompt_tuning import trees
  from prompt_tuning.models.t5 import T5

  gated = "decoder/logits/kernel" in t5
  config = T5Config(
    vocab_size=VOCABULARY,
    d_model=D_MODEL,
    num_heads=HEADS,
    d_kv=D_KV,
    d_ff=D_FF,
    num_encoder_layers=LAYERS,
    num_decoder_layers=LAYERS,
    relative_buckets=BUCKETS,
    mlp_activations=("gelu", "linear") if gated else ("relu",),
    tied_logits=not gated,
  )
  save(tmp_path / "model.ckpt-1", t5)
  found = formats.load(str(tmp_path))
  variables = trees.flat_variables(T5.abstract(config))
  assert found.shapes == {name: v.get_value().shape for name, v in variables.items()}
  assert T5Config.of_shapes(found.shapes, **found.facts) == config


def test_a_box_and_a_dtype_are_those_of_the_whole(tmp_path):
  t5 = t5_of(True)
  save(tmp_path / "model.ckpt-1", t5)
  leaf = formats.load(str(tmp_path)).leaves["token_embedder/embedding"]
  box = (slice(2, 7), slice(1, 3))
  np.testing.assert_array_equal(leaf.read(box), t5["shared/embedding"][box])
  half = np.dtype(ml_dtypes.bfloat16)
  np.testing.assert_array_equal(
    leaf.read(box, half), t5["shared/embedding"][box].astype(half)
  )


def test_half_precision_stays_as_it_is_stored(tmp_path):
  half = np.ones((3, 2), ml_dtypes.bfloat16)
  save(tmp_path / "model.ckpt-1", {"shared/embedding": half})
  leaf = formats.load(str(tmp_path)).leaves["token_embedder/embedding"]
  assert leaf.dtype == half.dtype and leaf.read().dtype == half.dtype


def test_a_step_that_is_not_there_is_0(tmp_path):
  save(tmp_path / "model.ckpt", t5_of(True))
  assert formats.load(str(tmp_path)).step == 0


def test_slots_are_no_parameters(tmp_path):
  t5 = t5_of(False)
  save(tmp_path / "model.ckpt-1", with_slots(t5, 1))
  found = formats.load(str(tmp_path))
  assert len(found) == len(t5) and found.others == {}


def test_position_tables_of_every_layer_stay_there(tmp_path):
  t5 = t5_of(True)
  for block in range(LAYERS):
    here = f"encoder/block_{block:03d}/layer_000/SelfAttention"
    t5[f"{here}/relative_attention_bias"] = np.full((HEADS, BUCKETS), block, np.float32)
  save(tmp_path / "model.ckpt-1", t5)
  found = formats.load(str(tmp_path))
  assert "encoder/relpos_bias/rel_embedding" not in found
  assert "decoder/relpos_bias/rel_embedding" in found
  for layer in range(LAYERS):
    table = found[f"encoder/layers_{layer}/relpos_bias/rel_embedding"]
    np.testing.assert_array_equal(table, layer)


def test_a_decoder_only_model_has_t5x_s_names():
  here, there = "transformer/block_011", "decoder/layers_11"
  for theirs, ours in {
    "transformer/embedding": "decoder/token_embedder/embedding",
    "transformer/rms_norm/scale": "decoder/decoder_norm/scale",
    "transformer/logits/kernel": "decoder/logits_dense/kernel",
    f"{here}/layer_000/SelfAttention/q": f"{there}/self_attention/query/kernel",
    f"{here}/layer_000/rms_norm/scale": f"{there}/pre_self_attention_layer_norm/scale",
    f"{here}/layer_001/layer_norm/scale": f"{there}/pre_mlp_layer_norm/scale",
    f"{here}/layer_001/DenseReluDense/wi_1/kernel": f"{there}/mlp/wi_1/kernel",
  }.items():
    assert mesh_tensorflow.t5x_path(theirs) == ours


@pytest.mark.parametrize(
  "name",
  [
    "encoder/block_000/layer_000/SelfAttention/x",
    "encoder/block_000/layer_002/layer_norm/scale",
    "encoder/block_000/layer_000/SelfAttention/q/extra",
    "encoder/logits/kernel",
    "elsewhere/final_layer_norm/scale",
    "dense/kernel",
  ],
)
def test_an_unknown_variable_is_refused_by_name(tmp_path, name):
  save(tmp_path / "model.ckpt-1", {**t5_of(True), name: np.zeros(2, np.float32)})
  with pytest.raises(checks.InputError, match=rf"variables that no T5 has \({name}\)"):
    formats.load(str(tmp_path))


def test_a_checkpoint_of_a_step_alone_is_refused(tmp_path):
  save(tmp_path / "model.ckpt-1", {"global_step": np.int64(1)})
  with pytest.raises(checks.InputError, match=r"model\.ckpt-1 cannot be read"):
    formats.load(str(tmp_path))


# Which of them.


@pytest.fixture
def steps(tmp_path):
  """A folder of three steps, whose numbers do not sort as texts."""
  for step in (5, 10, 9):
    variables = {"shared/embedding": np.full((2, 2), step, np.float32)}
    save(tmp_path / f"model.ckpt-{step}", variables | {"global_step": np.int64(step)})
  return tmp_path


def test_a_prefix_and_its_index_file_name_a_step(steps):
  for name in ("model.ckpt-5", "model.ckpt-5.index"):
    found = formats.load(str(steps / name))
    assert found.step == 5
    np.testing.assert_array_equal(found["token_embedder/embedding"], 5)


def test_a_folder_means_the_latest(steps):
  assert formats.load(str(steps)).step == 10


def test_a_folder_means_the_one_that_its_text_file_names(steps):
  lines = ['model_checkpoint_path: "model.ckpt-9"']
  lines += [f'all_model_checkpoint_paths: "model.ckpt-{n}"' for n in (5, 9, 10)]
  (steps / "checkpoint").write_text("\n".join(lines))
  assert formats.load(str(steps)).step == 9


@pytest.mark.parametrize(
  "text",
  [
    'model_checkpoint_path: "model.ckpt-77"',  # which is not there
    'model_checkpoint_path: "../model.ckpt-5"',
    "model_checkpoint_path: ",
  ],
)
def test_a_text_file_that_names_nothing_here_is_left_aside(steps, text):
  (steps / "checkpoint").write_text(text)
  assert formats.load(str(steps)).step == 10


def test_what_tensorflow_s_own_saver_writes_reads(tmp_path):
  values = t5_of(True)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    variables = {
      name: tf.compat.v1.get_variable(name, initializer=array, use_resource=True)
      for name, array in values.items()
    }
    step = tf.compat.v1.train.get_or_create_global_step()
    session.run(tf.compat.v1.global_variables_initializer())
    session.run(step.assign(12))
    saver = tf.compat.v1.train.Saver({**variables, "global_step": step}, sharded=True)
    saver.save(session, str(tmp_path / "model.ckpt"), global_step=12)
  assert (tmp_path / "checkpoint").read_bytes().startswith(b"model_checkpoint_path")
  found = formats.load(str(tmp_path))
  assert found.path == epath.Path(tmp_path / "model.ckpt-12") and found.step == 12
  np.testing.assert_array_equal(
    found["token_embedder/embedding"], values["shared/embedding"]
  )


@pytest.mark.parametrize("keep", [0, 10, -10])
def test_a_damaged_index_is_refused(tmp_path, keep):
  save(tmp_path / "model.ckpt-1", t5_of(True))
  index = tmp_path / "model.ckpt-1.index"
  index.write_bytes(index.read_bytes()[:keep])
  with pytest.raises(checks.InputError, match=r"model\.ckpt-1 cannot be read"):
    formats.load(str(tmp_path))
