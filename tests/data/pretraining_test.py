"""Packed rows: whole, unmixed, a function of the seed, made by real seqio tasks."""

import collections
import functools
import hashlib
import itertools

import numpy as np
import pytest
import seqio
import tensorflow as tf

from prompt_tuning import checks
from prompt_tuning.data import pretraining, token_arrays, vocabularies
from prompt_tuning.data.objective_config import Objective
from prompt_tuning.data.vocabularies import EMBEDDED

EOS = 1
PIECES = 3996  # of the embedded vocabulary; sentinels lie above
KINDS = ("span_corruption", "prefix_lm", "text_infilling", "token_deletion", "labelled")
LENGTHS = {"inputs": 32, "targets": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("text")
  rng = np.random.default_rng(0)
  words = ["film", "birds", "sad", "ending", "good", "witty", "actor", "plot", "music"]
  texts = [" ".join(rng.choice(words, rng.integers(3, 25))) for _ in range(600)]
  (folder / "a.txt").write_text("\n".join(texts))
  line = '{{"prefix": "mood:", "inputs": "{}", "targets": "positive"}}\n'
  (folder / "a.jsonl").write_text("".join(map(line.format, texts)))
  return folder


def objective(folder, kind, **others):
  suffix = "jsonl" if kind == "labelled" else "txt"
  others = {"lengths": LENGTHS, "text": str(folder / f"a.{suffix}"), **others}
  return Objective(name=f"test_{kind}", kind=kind, **others)


def rows(objective, split="validation", seed=0, vocabulary=EMBEDDED):
  return list(pretraining.rows(objective, vocabulary, split, seed))


@functools.cache
def train_rows(folder, kind):
  return rows(objective(folder, kind), "train")


def joined(pieces):
  return list(itertools.chain.from_iterable(pieces))


def unpacked(found):
  """(inputs, targets) of every segment, EOS left out; checks that each has one."""
  for row in found:
    inputs, targets = row["encoder_segment_ids"], row["decoder_segment_ids"]
    assert inputs.max() == targets.max() >= 1
    for segment in range(1, inputs.max() + 1):
      pair = [
        row["encoder_input_tokens"][inputs == segment].tolist(),
        row["decoder_target_tokens"][targets == segment].tolist(),
      ]
      for side in pair:
        assert side[-1] == EOS and EOS not in side[:-1]
      yield pair[0][:-1], pair[1][:-1]


def restored(kind, inputs, targets):
  """The text's tokens, from what an objective made of them."""
  if kind == "prefix_lm":
    return inputs + targets
  starts = [i for i, token in enumerate(targets) if token >= PIECES] + [len(targets)]
  hidden = {targets[a]: targets[a + 1 : b] for a, b in itertools.pairwise(starts)}
  return joined(hidden.get(token, [token]) for token in inputs)


def document_tokens(folder, split):
  lines = (folder / "a.txt").read_text().splitlines()
  held_out = lines[99::100]
  kept = held_out if split == "validation" else [x for x in lines if x not in held_out]
  return joined(map(EMBEDDED.load().encode, kept))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_packed_segment_by_segment(folder, kind):
  found = train_rows(folder, kind)
  assert len(found) > 20
  for row in found:
    assert row.keys() == set(token_arrays.FEATURES)
    for tokens, ids in (
      ("encoder_input_tokens", "encoder_segment_ids"),
      ("decoder_target_tokens", "decoder_segment_ids"),
    ):
      assert row[tokens].shape == row[ids].shape == (32,)
      np.testing.assert_array_equal(row[tokens] > 0, row[ids] > 0)
      steps = np.diff(row[ids][row[ids] > 0])
      assert row[ids][0] == 1 and set(steps.tolist()) <= {0, 1}
      assert (np.diff((row[ids] > 0).astype(int)) <= 0).all()  # padding is at the end
  assert len(list(unpacked(found))) >= len(found)


@pytest.mark.parametrize("kind", ["span_corruption", "prefix_lm"])
def test_unpacked_validation_is_the_text_in_its_order(folder, kind):
  found = rows(objective(folder, kind))
  text = joined(restored(kind, *pair) for pair in unpacked(found))
  expected = document_tokens(folder, "validation")
  assert len(expected) > 50 and text in (expected, expected[:-1])  # no single token


def test_unpacked_training_is_the_text_in_other_orders_and_spans_each_epoch(folder):
  kind = "span_corruption"
  once = list(unpacked(train_rows(folder, kind)))
  twice = list(unpacked(rows(objective(folder, kind, epochs=2), "train")))
  expected = collections.Counter(document_tokens(folder, "train"))
  for found, epochs in ((once, 1), (twice, 2)):
    counts = collections.Counter(joined(restored(kind, *pair) for pair in found))
    whole = collections.Counter({token: epochs * n for token, n in expected.items()})
    assert not counts - whole
    assert (whole - counts).total() <= 5 * epochs  # single tokens at the ends of pieces
  assert len(set(map(str, twice))) > 1.9 * len(once)  # no epoch repeats another's


@pytest.mark.parametrize("kind", ["span_corruption", "labelled"])
def test_rows_are_a_function_of_the_seed_and_as_many_as_wanted(folder, kind):
  first = train_rows(folder, kind)[:10]
  for seed in (0, 1):
    found = rows(objective(folder, kind, max_rows=10), "train", seed)
    same = [
      (a[name] == b[name]).all() for a, b in zip(first, found, strict=True) for name in a
    ]
    assert all(same) == (seed == 0)


def test_labelled_rows_hold_prefix_piece_and_label(folder):
  encode = EMBEDDED.load().encode
  lines = (folder / "a.txt").read_text().splitlines()
  known = " | ".join(" ".join(map(str, encode(line))) for line in lines)
  prefix, label = encode("mood:"), encode("positive")
  packed = rows(objective(folder, "labelled", window=12), "train")
  found = list(unpacked(packed))
  assert len(found) == 594 > 2 * len(packed)
  for inputs, targets in found:
    assert inputs[: len(prefix)] == prefix and targets == label
    assert len(prefix) < len(inputs) <= 12 - 1
    assert f" {' '.join(map(str, inputs[len(prefix) :]))} " in f" {known} "


def test_what_is_read_back_from_disk_is_what_seqio_feeds(folder, tmp_path):
  found = train_rows(folder, "prefix_lm")
  token_arrays.write(tmp_path / "x" / "train", found, EMBEDDED.load().vocab_size)
  batches = token_arrays.TokenArrays.read(tmp_path, "x", "train").in_order(1)
  for row, batch in zip(found, batches, strict=True):
    targets, segments = row["decoder_target_tokens"], row["decoder_segment_ids"]
    inputs = seqio.autoregressive_inputs(tf.constant(targets), tf.constant(segments))
    np.testing.assert_array_equal(batch["decoder_input_tokens"][0], inputs)
    for name in row:
      np.testing.assert_array_equal(batch[name][0], row[name])


def test_a_split_that_a_task_does_not_have_has_no_rows(folder):
  assert rows(objective(folder, "prefix_lm"), "test") == []


# Tasks.


def test_a_registered_task_is_found_by_name_once_its_module_is_imported(
  folder, tmp_path, monkeypatch
):
  name = "registered_by_the_pretraining_test"
  by_name = Objective(name=name, kind=None, module="its_module", lengths=LENGTHS)
  (tmp_path / "its_module.py").write_text(
    "import functools, seqio\n"
    "from prompt_tuning.data import documents, features, objectives, vocabularies\n"
    f"seqio.TaskRegistry.add({name!r},\n"
    f"  source=documents.source({str(folder / 'a.txt')!r}), preprocessors=[\n"
    "  functools.partial(seqio.preprocessors.rekey,\n"
    "                    key_map={'inputs': None, 'targets': 'text'}),\n"
    "  seqio.preprocessors.tokenize, objectives.prefix_lm,\n"
    "  seqio.preprocessors.append_eos_after_trim],\n"
    "  output_features=features.text_to_text(vocabularies.T5))\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  expected = rows(objective(folder, "prefix_lm"))
  found = rows(by_name)
  assert len(found) == len(expected) > 0
  texts = [joined(a + b for a, b in unpacked(x)) for x in (found, expected)]
  assert texts[0] == texts[1]
  with pytest.raises(checks.InputError, match=f"nearest known: {name}"):
    pretraining.task(Objective(name=name[:-1], kind=None, lengths=LENGTHS), EMBEDDED)


def test_a_module_that_is_not_there_is_refused():
  wanted = Objective(name="x", kind=None, module="no_such_module", lengths=LENGTHS)
  with pytest.raises(checks.InputError, match="no_such_module"):
    pretraining.task(wanted, EMBEDDED)


def test_an_objective_without_text_is_refused(folder):
  with pytest.raises(checks.InputError, match=r"'test_prefix_lm' has no text.*set TEXT"):
    pretraining.task(objective(folder, "prefix_lm", text=None), EMBEDDED)


@pytest.mark.parametrize("kind", ["span_corruption", "text_infilling"])
def test_a_vocabulary_without_sentinels_is_refused_where_spans_are_hidden(folder, kind):
  path = EMBEDDED.sentencepiece_model_file
  plain = vocabularies.SentencePiece(sentencepiece_model_file=path, extra_ids=0)
  with pytest.raises(checks.InputError, match=rf"{kind} of .* has 0 sentinels; set"):
    rows(objective(folder, kind), vocabulary=plain)
  assert rows(objective(folder, "prefix_lm"), vocabulary=plain)


def test_a_text_is_described_by_hashes_and_bad_lines(tmp_path, capsys):
  (tmp_path / "a.txt").write_bytes(b"good\nb\xff\xffd\n\xe9\n")
  (tmp_path / "b.txt").write_bytes(b"other\n")
  found = pretraining.described(objective(tmp_path, "prefix_lm", text=str(tmp_path)))
  assert found == {
    "invalid_utf8_lines": 2,
    "sha256": {
      path.name: hashlib.sha256(path.read_bytes()).hexdigest()
      for path in (tmp_path / "a.txt", tmp_path / "b.txt")
    },
  }
  assert "2 lines are not UTF-8" in capsys.readouterr().err
  pretraining.described(objective(tmp_path, "prefix_lm", text=str(tmp_path / "b.txt")))
  assert capsys.readouterr().err == ""


def test_a_tfds_or_registered_text_is_described_by_its_name(folder):
  tfds = objective(folder, "prefix_lm", text="tfds:c4/en")
  assert pretraining.described(tfds) == {"name": "tfds:c4/en"}
  named = Objective(name="mine", kind=None, lengths=LENGTHS)
  assert pretraining.described(named) == {"name": "mine"}


@pytest.mark.parametrize(
  ("kind", "digest"),
  [
    ("span_corruption", "79d2dfa6ff22"),
    ("prefix_lm", "15e0295cec80"),
    ("text_infilling", "245c8aa6dbf3"),
    ("token_deletion", "daa96ddafa84"),
  ],
)
def test_the_rows_of_a_seed_stay_what_they_are(tmp_path, kind, digest):
  """Should this fail, the embedded model can no longer be made again as its card says."""
  lines = [
    f"film number {i} is {i % 7} times as long as the one before it" for i in range(60)
  ]
  (tmp_path / "a.txt").write_text("\n".join(lines))
  objective = Objective(
    name=kind, kind=kind, text=str(tmp_path), lengths={"inputs": 64, "targets": 64}
  )
  found = hashlib.sha256()
  for row in pretraining.rows(objective, EMBEDDED, "train", 0):
    for name in sorted(row):
      found.update(row[name].astype("<i4").tobytes())
  assert found.hexdigest()[:12] == digest
