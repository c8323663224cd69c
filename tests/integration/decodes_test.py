"""Inference that writes scores and all answers, as T5X's `predict_with_aux` does."""

import json

import pytest

BEAM = "--gin_file=models/decoding/beam_search.gin"
AUX = {"infer.infer.mode": "predict_with_aux", "decoding.Prediction.max_len": 4}
ALL = {"decoding.Prediction.return_all_decodes": True}


@pytest.fixture
def inferred(trained, run, command, tmp_path):
  """The lines of an inference with the trained prompt."""

  def infer(*flags: str, **macros: object) -> list[dict]:
    given = {"PROMPT_FILE": str(trained.folder / "prompt.safetensors"), **macros}
    found = run(command("infer", tmp_path / "out", *flags, **given))
    assert found.status == 0, found.err
    with open(found.out.strip()) as lines:
      return [json.loads(line) for line in lines]

  return infer


def test_beam_search_writes_its_answers_best_last(inferred):
  several = inferred(BEAM, LABELS=None, **AUX, **ALL)
  best = inferred(BEAM, LABELS=None, **AUX)
  plain = inferred(BEAM, LABELS=None, **{**AUX, "infer.infer.mode": "predict"})
  assert len(several) == len(best) == len(plain) == 9
  for every, one, only in zip(several, best, plain, strict=True):
    assert len(every["prediction"]) == len(every["aux"]["scores"]) == 4
    assert every["aux"]["scores"] == sorted(every["aux"]["scores"])
    assert len(set(map(str, every["aux"]["scores"]))) > 1
    assert one["prediction"] == every["prediction"][-1] == only["prediction"]
    assert one["aux"]["scores"] == every["aux"]["scores"][-1]
    assert "aux" not in only


def test_all_candidates_are_written_best_last(inferred):
  several = inferred(**AUX, **ALL)
  plain = inferred(**{**AUX, "infer.infer.mode": "predict"})
  for every, only in zip(several, plain, strict=True):
    assert sorted(every["prediction"]) == ["negative", "positive"]
    assert every["aux"]["scores"] == sorted(every["aux"]["scores"])
    assert every["prediction"][-1] == only["prediction"]


def test_sampling_draws_the_same_again(inferred):
  nucleus = "--gin_file=models/decoding/nucleus_sampling.gin"
  first = inferred(nucleus, LABELS=None, **AUX)
  assert first == inferred(nucleus, LABELS=None, **AUX)
  assert first != inferred("--gin_file=models/decoding/greedy.gin", LABELS=None, **AUX)
