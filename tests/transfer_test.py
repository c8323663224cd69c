"""Comparing trained prompts: names, whose prompts compare, and the flags of a start."""

import json
import shlex

import numpy as np
import pytest
from etils import epath

from prompt_tuning import checks, config, transfer
from prompt_tuning.checkpoints import prompt_files
from prompt_tuning.cli.main import main
from prompt_tuning.methods import spot

RNG = np.random.default_rng(0)
KINDS = RNG.normal(size=(2, 4, 8)) + 0.3


def array(kind, noise=0.2):
  return (KINDS[kind] + noise * RNG.normal(size=(4, 8))).astype(np.float32)


@pytest.fixture
def saved(tmp_path, monkeypatch):
  """Writes a MODEL_DIR with a prompt below the working folder and returns its path."""
  monkeypatch.chdir(tmp_path)

  def save(name, prompt, **metadata):
    prompt_files.save_prompt(f"{name}/prompt.safetensors", prompt, metadata)
    return name

  return save


@pytest.fixture
def four(saved):
  """{name: prompt} of four runs: a and c are alike, and so are b and d."""
  prompts = {name: array(kind) for name, kind in zip("abcd", (0, 1, 0, 1), strict=True)}
  for name, prompt in prompts.items():
    saved(f"runs/{name}", prompt, task=f"task_{name}", base_fingerprint="one")
  return prompts


def runs(names):
  return [f"runs/{name}" for name in names]


@pytest.mark.parametrize(
  ("paths", "expected"),
  [
    (["runs/a", "runs/b/"], ["a", "b"]),
    (["runs/a/prompt.safetensors", "runs/b/prompt.safetensors"], ["a", "b"]),
    (["runs/a/best.npy", "runs/b/last.npy"], ["best.npy", "last.npy"]),
    (["x/run/s/p.npy", "y/run/s/p.npy", "y/walk/s/p.npy"], ["x/run", "y/run", "y/walk"]),
    (["a", "runs/a"], ["a", "runs/a"]),
    (["runs/a"], ["a"]),
    (["/"], [""]),
  ],
)
def test_names_are_the_parts_that_tell_paths_apart(paths, expected):
  assert transfer.names(paths) == expected


def test_a_comparison_is_that_of_the_arrays_in_the_order_of_paths(four):
  for measure in spot.MEASURES:
    found = transfer.transfer(runs("abcd"), measure=measure)
    np.testing.assert_array_equal(found["similarity"], spot.similarities(four, measure))
  assert found["sources"] == dict(zip("abcd", runs("abcd"), strict=True))
  assert found["tasks"]["b"] == "task_b"
  assert {*found["order"][:2]} in ({"a", "c"}, {"b", "d"})
  assert "target" not in found


def test_the_table_has_similar_prompts_together(four):
  found = transfer.transfer(runs("abcd"))
  head, *rows = transfer.report(found).splitlines()
  assert head.split() == ["1", "2", "3", "4"]
  assert [row.split()[1] for row in rows] == found["order"]
  number, name, *cells = rows[1].split()
  assert number == "2" and cells[1] == "1.000"
  expected = spot.similarity(four[name], four[found["order"][0]])
  assert float(cells[0]) == pytest.approx(expected, abs=1e-3)


def test_a_target_ranks_the_others_and_is_no_source_of_itself(four):
  found = transfer.transfer(runs("abcd"), "runs/c/")
  others = {name: prompt for name, prompt in four.items() if name != "c"}
  assert found["ranking"] == pytest.approx(spot.retrieve(four["c"], others))
  first = transfer.report(found).splitlines()[0]
  assert first.split()[1:] == ["a", "task_a"]


@pytest.mark.parametrize(
  "target",
  ["./runs/c", "runs/c/prompt.safetensors", "runs/../runs/c", "linked", "{}/runs/c"],
)
def test_a_target_is_no_source_of_itself_whichever_path_leads_to_it(four, tmp_path, target):
  (tmp_path / "linked").symlink_to(tmp_path / "runs" / "c")
  found = transfer.transfer(runs("abcd"), target.format(tmp_path))
  assert set(found["ranking"]) == set(found["sources"]) == set("abd")


def started(flags):
  """The start of a training run with these flags behind its own."""
  given = [flags_of.removeprefix("--") for flags_of in shlex.split(" ".join(flags))]
  files = [f.removeprefix("gin_file=") for f in given if f.startswith("gin_file=")]
  bindings = [f.removeprefix("gin.") for f in given if f.startswith("gin.")]
  settings, _ = config.load(
    "train.train",
    ["experiments/movie_reviews.gin", *files],
    ["MODEL_DIR = 'x'", *bindings],
  )
  prompt = settings.learned.prompt
  assert prompt.length == 4
  return prompt.start.initializer(None, None)(None, (4, 8))


def test_the_flags_start_a_run_from_the_best_or_the_average(four):
  found = transfer.transfer(runs("abcd"), "runs/b", top=2)
  one, average = found["starts"].values()
  np.testing.assert_array_equal(started(one), four["d"])
  _, second, _ = found["ranking"]
  assert list(found["starts"]) == ["d", f"the average of d, {second}"]
  sources = {name: prompt for name, prompt in four.items() if name != "b"}
  expected = spot.weighted_average(four["b"], sources, 2)
  np.testing.assert_allclose(started(average), expected, atol=1e-3)
  for flags in (one, average):
    command = ["train", "--gin_file=experiments/movie_reviews.gin", "--gin.MODEL_DIR='x'"]
    assert main([*command, *shlex.split(" ".join(flags)), "--dry_run"]) == 0


def test_quotes_in_a_path_are_quoted(saved):
  names = ["it's $HOME `x`", 'say "b"!']
  paths = [saved(name, array(0)) for name in names]
  found = transfer.transfer(paths, saved("new", array(0)))
  for flags in found["starts"].values():
    assert started(flags).shape == (4, 8)


def test_an_average_leaves_out_other_lengths_and_what_is_unlike(saved):
  target, long = array(0), np.concatenate([array(0), array(0)])
  for name, prompt in {"like": target, "long": long, "unlike": -target}.items():
    saved(name, prompt)
  found = transfer.transfer(["unlike", "long", "like"], saved("new", target))
  assert list(found["ranking"]) == ["like", "long", "unlike"]
  assert list(found["starts"]) == ["like"]
  saved("again", array(0))
  found = transfer.transfer(["unlike", "long", "like", "again"], "new", top=4)
  assert list(found["starts"]) == ["like", "the average of like, again"]


def test_prompts_are_compared_as_they_were_at_a_step(saved):
  early = {name: array(kind) for name, kind in (("a", 0), ("b", 1), ("new", 1))}
  for name, prompt in early.items():
    saved(name, array(0))
    prompt_files.save_step(epath.Path(name), 50, "prompt", prompt)
  found = transfer.transfer(["a", "b"], "new", step=50)
  sources = {name: early[name] for name in "ab"}
  assert found["ranking"] == pytest.approx(spot.retrieve(early["new"], sources))
  assert "--gin.PROMPT_FILE=\"'b'\"" in found["starts"]["b"]  # the best of the run
  with pytest.raises(checks.InputError, match="a has no prompt of step 51, expected 50"):
    transfer.transfer(["a", "b"], step=51)


def test_results_are_written_with_a_picture(four, tmp_path):
  found = transfer.transfer(runs("abc"), "runs/d")
  transfer.write(found, str(tmp_path / "out"))
  written = json.loads((tmp_path / "out" / "similarity.json").read_text())
  assert written["similarity"] == found["similarity"]
  assert written["ranking"] == found["ranking"]
  text = (tmp_path / "out" / "similarity.svg").read_text()
  assert all(text.count(f"<!-- {name} -->") >= 2 for name in "abc")


def test_prompts_of_different_models_are_refused(four, saved):
  other = saved("other", array(0), base_fingerprint="two")
  silent = saved("silent", array(0))
  for arguments in ([*runs("ab"), other], None), (runs("ab"), other):
    with pytest.raises(checks.InputError, match=r"different models .*one.*two") as error:
      transfer.transfer(*arguments)
    assert len(str(error.value).splitlines()) == 1
  assert transfer.transfer([*runs("ab"), silent])["order"]


@pytest.mark.parametrize(
  ("sources", "target", "message"),
  [
    (["runs/a"], None, "1 prompts are given"),
    (["runs/a"], "runs/a", "0 prompts are given"),
    (["runs/a", "runs/a/"], None, "there twice"),
    (["runs/a", "runs/x"], None, "there is no prompt at runs/x"),
    (["runs/a"], "runs/x", "there is no prompt at runs/x"),
  ],
)
def test_too_few_or_no_prompts_are_refused(four, sources, target, message):
  with pytest.raises(checks.InputError, match=message):
    transfer.transfer(sources, target)


def test_a_bank_is_no_prompt(four, saved):
  bank = saved("bank", np.stack([array(0), array(1)]))
  with pytest.raises(checks.InputError, match="bank of 2 prompts"):
    transfer.transfer(["runs/a", bank])
