"""Pretraining examples: nothing is lost, densities hold, a batch is its seed and step."""

import json

import numpy as np
import pytest

from prompt_tuning import checks
from prompt_tuning.data import objectives
from prompt_tuning.data.objectives import Objective

TOP = 999  # of the sentinels
EOS = objectives.EOS


def restored(inputs, targets, top=TOP):
  """The tokens that span corruption was given, from what it made of them."""
  spans, hidden = {}, None
  for token in targets[:-1]:
    if token > top - 100:
      hidden = spans.setdefault(token, [])
    else:
      hidden.append(token)
  whole = []
  for token in inputs[:-1]:
    whole += spans.pop(token) if token in spans else [token]
  assert not spans
  return whole


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("length", [14, 40, 114, 568])
def test_span_corruption_hides_and_tells_everything(seed, length):
  rng = np.random.default_rng(seed)
  tokens = rng.integers(3, 800, length)
  inputs, targets = objectives.span_corruption(tokens, rng, TOP)
  assert inputs[-1] == targets[-1] == EOS
  assert restored(inputs, targets) == tokens.tolist()
  noise = round(0.15 * length)
  spans = max(1, round(noise / 3.0))
  assert len(inputs) == length - noise + spans + 1
  assert len(targets) == noise + spans + 1
  for side in (inputs, targets):
    sentinels = [token for token in side if token > TOP - 100]
    assert sentinels == [TOP - i for i in range(spans)]


def test_spans_lie_everywhere_and_have_every_length():
  tokens = np.arange(3, 117)
  rng = np.random.default_rng(0)
  hidden, lengths = np.zeros(114), []
  for _ in range(500):
    inputs, targets = objectives.span_corruption(tokens, rng, TOP)
    hidden += ~np.isin(tokens, inputs)
    at = [i for i, token in enumerate(targets) if token > TOP - 100]
    lengths += np.diff([*at, len(targets) - 1]).tolist()
  assert hidden[1:].min() > 0  # the first token is always shown
  assert 0.1 < (hidden / 500)[1:].mean() < 0.2
  assert min(lengths) == 2 and max(lengths) > 6
  assert np.mean(lengths) - 1 == pytest.approx(17 / 6)


@pytest.mark.parametrize("input_len", [32, 64, 128, 512])
def test_corrupted_windows_fill_their_length(input_len):
  raw, target_len = objectives.span_lengths(input_len)
  rng = np.random.default_rng(0)
  inputs, targets = objectives.span_corruption(np.arange(3, 3 + raw), rng, 9999)
  assert len(inputs) in (input_len, input_len - 1)
  assert len(targets) == target_len
  noise = round(0.15 * (raw + 1))
  assert raw + 1 - noise + round(noise / 3) + 1 > input_len  # one token more is too many


def test_a_length_too_short_for_a_span_is_refused():
  with pytest.raises(checks.InputError, match="too short for one span"):
    objectives.span_lengths(8)


@pytest.mark.parametrize("target_len", [2, 8, 32])
def test_a_prefix_and_its_continuation_are_the_text(target_len):
  tokens = np.arange(3, 43)
  cuts = set()
  for seed in range(200):
    rng = np.random.default_rng(seed)
    inputs, targets = objectives.prefix_lm(tokens, rng, target_len)
    assert inputs[-1] == targets[-1] == EOS
    assert inputs[:-1] + targets[:-1] == tokens.tolist()
    assert len(inputs) >= 2 and 2 <= len(targets) <= target_len
    cuts.add(len(targets))
  assert cuts == set(range(2, target_len + 1))


# Whole batches.


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
  """A tokenized corpus: a letter is a token, documents of 40, examples of 5 to 60."""
  folder = tmp_path_factory.mktemp("tokens")
  (folder / "text.txt").write_text("\n".join("abcdefghij" * 4 for _ in range(20)))
  examples = [
    {"task": "t", "inputs": f"mood: {'xyz' * (i * 3)}", "targets": "up" if i % 2 else "dn"}
    for i in range(7)
  ]
  examples.append({"task": "u", "inputs": "longer head: hello", "targets": "up"})
  (folder / "labelled.jsonl").write_text("\n".join(map(json.dumps, examples)))
  return objectives.tokenize(folder, encode)


def encode(texts):
  return [[ord(c) for c in text] for text in texts]


def decode(row):
  return "".join(chr(token) for token in row if token > EOS)


def test_a_tokenized_corpus_is_its_documents_each_with_eos(tokens):
  assert tokens.text.shape == (20 * 41,)
  assert decode(tokens.text[:40]) == "abcdefghij" * 4 and tokens.text[40] == EOS
  assert tokens.prefix.tolist() == [len("mood:")] * 7 + [len("longer head:")]
  assert [decode(row) for row in tokens.targets[:2]] == ["dn", "up"]
  assert decode(tokens.inputs[tokens.starts[7] :]) == "longer head: hello"


def test_a_corpus_is_tokenized_once(tmp_path, tokens):
  (tmp_path / "text.txt").write_text("abc\n")
  (tmp_path / "labelled.jsonl").write_text(
    json.dumps({"inputs": "a: b", "targets": "c"}) + "\n"
  )
  first = objectives.tokenize(tmp_path, encode)

  def never(texts):
    raise AssertionError("tokenized twice")

  again = objectives.tokenize(tmp_path, never)
  np.testing.assert_array_equal(first.text, again.text)


def test_an_empty_corpus_is_refused(tmp_path):
  (tmp_path / "text.txt").write_text("")
  (tmp_path / "labelled.jsonl").write_text("")
  with pytest.raises(checks.InputError, match="is empty"):
    objectives.tokenize(tmp_path, encode)


@pytest.mark.parametrize("missing", ["text.txt", "labelled.jsonl"])
def test_a_corpus_without_text_or_without_labels_is_enough(tmp_path, missing):
  rows = {"text.txt": "abc\n", "labelled.jsonl": '{"inputs": "a: b", "targets": "c"}\n'}
  for name, content in {**rows, missing: ""}.items():
    (tmp_path / name).write_text(content)
  found = objectives.tokenize(tmp_path, encode)
  assert len(found.text) == (0 if missing == "text.txt" else 4)
  assert len(found.prefix) == (0 if missing == "labelled.jsonl" else 1)


KINDS = {
  "span_corruption": {"input_len": 32},
  "prefix_lm": {"input_len": 24, "target_len": 8},
  "labelled": {"input_len": 20, "target_len": 4},
}


def batch(kind, tokens, seed=(0, 5)):
  objective = Objective(kind=kind, batch_size=6, **KINDS[kind])
  return objective.batch(tokens, np.random.default_rng(seed), 1000)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_batch_is_a_function_of_seed_and_step(tokens, kind):
  first = batch(kind, tokens)
  for name, rows in batch(kind, tokens).items():
    np.testing.assert_array_equal(rows, first[name])
  for other in ((0, 6), (1, 5)):
    changed = batch(kind, tokens, other)
    assert (changed["encoder_input_tokens"] != first["encoder_input_tokens"]).any()


@pytest.mark.parametrize("kind", list(KINDS))
def test_batches_have_t5x_s_features(tokens, kind):
  found = batch(kind, tokens)
  assert found["encoder_input_tokens"].shape[0] == 6
  assert found["encoder_input_tokens"].shape[1] == KINDS[kind]["input_len"]
  targets = found["decoder_target_tokens"]
  np.testing.assert_array_equal(found["decoder_input_tokens"][:, 1:], targets[:, :-1])
  assert (found["decoder_input_tokens"][:, 0] == 0).all()
  np.testing.assert_array_equal(found["decoder_loss_weights"], targets > 0)
  assert {rows.dtype for rows in found.values()} == {np.dtype(np.int32)}
  for name in ("encoder_input_tokens", "decoder_target_tokens"):
    assert (np.count_nonzero(found[name] == EOS, axis=1) >= 1).all(), name


def test_batches_of_span_corruption_restore_windows_of_the_text(tokens):
  found = batch("span_corruption", tokens)
  text = tokens.text.tolist()
  for inputs, targets in zip(
    found["encoder_input_tokens"], found["decoder_target_tokens"], strict=True
  ):
    inputs, targets = inputs[inputs > 0].tolist(), targets[targets > 0].tolist()
    window = restored(inputs, targets)
    assert len(window) == objectives.span_lengths(32)[0]
    assert any(text[i : i + len(window)] == window for i in range(len(text)))


def test_labelled_windows_keep_the_head(tokens):
  seen = set()
  for step in range(30):
    found = batch("labelled", tokens, (0, step))
    for inputs, targets in zip(
      found["encoder_input_tokens"], found["decoder_target_tokens"], strict=True
    ):
      text = decode(inputs)
      head = "longer head:" if text.startswith("longer") else "mood:"
      assert text.startswith(head)
      assert inputs[np.count_nonzero(inputs) - 1] == EOS
      assert decode(targets) in ("up", "dn")
      seen.add(text)
  assert "longer head: hello" in seen
  windows = {text for text in seen if len(text) == 19}
  assert len(windows) >= 3  # cut at more than one place
  assert any(not text.startswith("mood: x") for text in windows)


def test_an_unknown_objective_names_the_nearest():
  with pytest.raises(checks.InputError, match="nearest known: span_corruption"):
    Objective(kind="span_coruption", batch_size=1, input_len=32)
