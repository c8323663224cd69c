"""Pretraining examples: nothing is lost, densities hold, a dataset is its seed."""

import collections
import itertools

import numpy as np
import pytest
import seqio
import tensorflow as tf

from prompt_tuning import checks
from prompt_tuning.data import objectives, spans, vocabularies
from prompt_tuning.data.spans import Noise

TOP = 4095  # the embedded vocabulary's first sentinel
PIECES = 3996
KINDS = ("span_corruption", "text_infilling", "token_deletion", "prefix_lm", "labelled")


@pytest.fixture(scope="module")
def features():
  vocabulary = vocabularies.EMBEDDED.load()
  return {name: seqio.Feature(vocabulary) for name in ("inputs", "targets")}


def examples(kind, documents, features, inputs=64, targets=64, seed=0, **kwargs):
  """(inputs, targets) of one objective over documents of token ids."""
  rows = [{"targets": document} for document in documents]
  spec = {"targets": tf.TensorSpec([None], tf.int32)}
  if kind == "labelled":
    rows = [
      {"prefix": "mood:", "inputs": document, "targets": [7]} for document in documents
    ]
    spec = {"prefix": tf.TensorSpec([], tf.string), "inputs": spec["targets"], **spec}
  dataset = tf.data.Dataset.from_generator(lambda: iter(rows), output_signature=spec)
  lengths = {"inputs": inputs, "targets": targets}
  with seqio.map_seed_manager(seed):
    found = getattr(objectives, kind)(dataset, lengths, features, **kwargs)
  return [
    (example["inputs"].tolist(), example["targets"].tolist())
    for example in found.as_numpy_iterator()
  ]


def restored(inputs, targets):
  """The tokens that span corruption was given, from what it made of them."""
  hidden = {}
  for token in targets:
    if token >= PIECES:
      span = hidden.setdefault(token, [])
    else:
      span.append(token)
  whole = []
  for token in inputs:
    whole += hidden.pop(token) if token >= PIECES else [token]
  assert not hidden
  return whole


def joined(pieces):
  return list(itertools.chain.from_iterable(pieces))


def sentinels(tokens):
  return [token for token in tokens if token >= PIECES]


def text(length, seed=0):
  return np.random.default_rng(seed).integers(3, PIECES, length).tolist()


# Which tokens are hidden.


@pytest.mark.parametrize("noise", [Noise(), Noise(0.5, 3.0), Noise(0.15, 1.0)])
@pytest.mark.parametrize("length", [2, 3, 14, 40, 114, 568])
def test_as_many_tokens_and_spans_are_hidden_as_counted(length, noise):
  hidden = objectives.noise_spans(tf.constant(length), noise, [1, 2]).numpy()
  begins = hidden & ~np.append(False, hidden[:-1])
  assert hidden.shape == (length,) and not hidden[0]
  assert (hidden.sum(), begins.sum()) == noise.counts(length)


def test_tensorflow_rounds_as_the_room_was_counted():
  lengths = range(2, 400)
  dataset = tf.data.Dataset.from_tensor_slices(list(lengths))
  found = dataset.map(
    lambda n: tf.math.count_nonzero(objectives.noise_spans(n, Noise(), [1, 2]))
  )
  expected = [Noise().counts(length)[0] for length in lengths]
  assert [int(n) for n in found.as_numpy_iterator()] == expected


def drawn(length, noise, count):
  seeds = tf.data.Dataset.range(count, output_type=tf.int32)
  found = seeds.map(lambda i: objectives.noise_spans(length, noise, tf.stack([i, 0])))
  return np.array(list(found.as_numpy_iterator()))


def test_spans_lie_everywhere_and_have_every_length():
  hidden = drawn(114, Noise(), 1000)
  share = hidden.mean(axis=0)
  assert share[0] == 0 and share[-1] == 1  # T5 begins with a shown run, ends with a span
  assert share[1:].min() > 0.05 and share[1:-8].max() < 0.2
  edges = np.diff(np.pad(hidden.astype(int), ((0, 0), (1, 1))), axis=1)
  lengths = np.where(edges < 0)[1] - np.where(edges > 0)[1]
  assert set(range(1, 9)) <= set(lengths.tolist())
  assert lengths.mean() == pytest.approx(17 / 6)


def test_every_way_to_hide_is_equally_likely():
  found = collections.Counter(map(bytes, drawn(10, Noise(0.3, 1.5), 1800)))
  assert len(found) == 6 * 2  # 7 shown tokens in two runs, 3 hidden ones in two
  assert all(100 < count < 200 for count in found.values())  # 150 each; 4.3 sigma


# The objectives.


def test_span_corruption_hides_and_tells_everything(features):
  documents = [text(50, seed) for seed in range(40)]
  found = examples("span_corruption", documents, features)
  assert joined(restored(*row) for row in found) == joined(documents)
  raw = spans.raw_len("span_corruption", 64, Noise())
  for inputs, targets in found[:-1]:  # the last holds what is left
    hidden, count = Noise().counts(raw)
    assert len(inputs) == 64 - 1 and len(targets) == hidden + count  # and EOS
    expected = [TOP - i for i in range(count)]
    assert sentinels(inputs) == sentinels(targets) == expected
    assert targets[0] == TOP


def test_infilled_texts_are_whole_and_their_sentinels_stand_where_text_is_missing(features):
  documents = [list(range(3, 66))] * 20
  found = examples("text_infilling", documents, features)
  hidden, count = Noise().counts(63)
  for inputs, targets in found:
    assert targets == documents[0]
    assert sentinels(inputs) == [TOP - i for i in range(count)]
    assert len(inputs) == 63 - hidden + count
    for before, token, after in zip(inputs, inputs[1:], [*inputs[2:], 66], strict=False):
      if token >= PIECES:
        assert after > before + 1
      else:
        assert before == token - 1 or before >= PIECES


def test_deleted_tokens_leave_nothing_and_targets_are_whole(features):
  document = list(range(3, 66))
  found = examples("token_deletion", [document] * 200, features)
  shown = np.zeros(63)
  for inputs, targets in found:
    assert targets == document and inputs == sorted(set(inputs) & set(document))
    shown += np.isin(document, inputs)
  assert shown.max() < 200  # each is deleted once
  assert shown.mean() / 200 == pytest.approx(0.85, abs=0.02)


def test_the_noise_that_is_given_is_the_noise_that_is_made(features):
  document = list(range(3, 66))
  for kind in ("text_infilling", "token_deletion"):
    found = examples(kind, [document] * 50, features, noise=Noise(0.5, 3.0))
    shown = np.mean([np.isin(document, inputs).mean() for inputs, _ in found])
    assert shown == pytest.approx(0.5, abs=0.05), kind


@pytest.mark.parametrize("target_len", [2, 8, 64])
def test_a_prefix_and_its_continuation_are_the_text(features, target_len):
  documents = [text(40, seed) for seed in range(300)]
  found = examples("prefix_lm", documents, features, inputs=41, targets=target_len)
  assert [inputs + targets for inputs, targets in found] == documents
  lengths = {len(targets) for _, targets in found}
  assert lengths == set(range(1, min(target_len - 1, 39) + 1))  # cut anywhere


def test_labelled_pieces_keep_the_prefix_and_start_at_several_places(features):
  long, short, empty = list(range(100, 160)), [8, 9], []
  found = examples("labelled", [long] * 100 + [short, empty], features, inputs=24)
  prefix = features["inputs"].vocabulary.encode("mood:")
  assert all(inputs[: len(prefix)] == prefix for inputs, _ in found)
  assert all(targets == [7] for _, targets in found)
  bodies = [inputs[len(prefix) :] for inputs, _ in found]
  assert bodies[-2:] == [short, empty]
  room = 24 - 1 - len(prefix)
  for body in bodies[:-2]:
    assert body == long[body[0] - 100 :][:room] and len(body) == room
  starts = {body[0] for body in bodies[:-2]}
  assert min(starts) == 100 and max(starts) == 160 - room and len(starts) > 30


def test_a_window_shortens_labelled_pieces(features):
  for window in (12, 500):
    found = examples("labelled", [text(60)], features, inputs=24, window=window)
    assert len(found[0][0]) == min(window, 24) - 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_is_a_function_of_its_seed(features, kind):
  documents = [text(63, seed) for seed in range(10)]
  first = examples(kind, documents, features, inputs=32 if kind == "labelled" else 64)
  for seed in (0, 1):
    lengths = {"inputs": 32 if kind == "labelled" else 64}
    again = examples(kind, documents, features, seed=seed, **lengths)
    assert (again == first) == (seed == 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_document_that_comes_again_is_treated_otherwise(features, kind):
  raw = spans.raw_len(kind, 32, Noise())
  document = text(60) if kind == "labelled" else text(raw)
  found = examples(kind, [document] * 10, features, inputs=32, targets=32)
  assert len({str(row) for row in found}) > 3


# The pieces.


def test_documents_are_joined_cut_and_nothing_but_a_single_token_is_lost():
  documents = [text(length) for length in (5, 1, 17, 2, 300)]
  dataset = tf.data.Dataset.from_generator(
    lambda: ({"targets": document} for document in documents),
    output_signature={"targets": tf.TensorSpec([None], tf.int32)},
  )
  (whole,) = objectives.concatenated(dataset).as_numpy_iterator()
  assert whole["targets"].tolist() == joined(documents)
  pieces = objectives.split_tokens(dataset, 4).as_numpy_iterator()
  pieces = [piece["targets"].tolist() for piece in pieces]
  assert max(map(len, pieces)) == 4 and min(map(len, pieces)) == 2
  five, _, seventeen, *others = documents  # 5 = 4 + 1, 17 = 4 * 4 + 1
  assert joined(pieces) == joined([five[:4], seventeen[:16], *others])


def test_of_a_very_long_document_a_random_chunk_is_taken():
  long = tf.range(3 * objectives.MAX_CHUNK - 10)
  dataset = tf.data.Dataset.from_tensors({"targets": long}).repeat(30)
  with seqio.map_seed_manager(0):
    found = objectives.random_chunk(dataset)
  chunks = [example["targets"] for example in found.as_numpy_iterator()]
  assert {int(chunk[0]) for chunk in chunks} == {0, 65536, 131072}
  assert {len(chunk) for chunk in chunks} == {65536, 65526}


@pytest.mark.parametrize("kind", spans.SPAN_KINDS)
def test_a_vocabulary_with_too_few_sentinels_is_refused(features, kind):
  path = str(vocabularies.files.path(vocabularies.EMBEDDED.sentencepiece_model_file))
  feature = seqio.Feature(seqio.SentencePieceVocabulary(path, 2))
  with pytest.raises(checks.InputError, match=r"3 spans.*2 sentinels; set .*extra_ids"):
    examples(kind, [text(60)], {"inputs": feature, "targets": feature})


def test_a_sentinel_before_a_target_is_one_token(features):
  dataset = tf.data.Dataset.from_tensors({"inputs": "a", "targets": "positive"})
  (found,) = objectives.sentinel_before_targets(dataset).as_numpy_iterator()
  vocabulary = features["targets"].vocabulary
  tokens = vocabulary.encode(found["targets"].decode())
  assert tokens[-1:] == vocabulary.encode("positive")
  assert found["inputs"] == b"a" and sentinels(tokens) == [TOP]
