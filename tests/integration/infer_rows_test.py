"""Rows of one's own through real processes: killed, piped, mixed, and of any length."""

import gzip
import itertools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import CONFIG

import prompt_tuning as pt

REPO = pathlib.Path(__file__).parents[2]
GIN = "--gin_file=experiments/movie_reviews_predictor.gin"
SMALL = ["--gin.BATCH_SIZE=8", "--gin.MAX_INPUT_LEN=64"]  # few shapes to compile
PREDICTOR_GIN = f"""
include 'prompt_tuning/configs/models/t5_1_1_reviews.gin'
include 'prompt_tuning/configs/runs/predictor.gin'
NUM_EMBEDDINGS = {CONFIG.vocab_size}
EMBED_DIM = {CONFIG.d_model}
NUM_HEADS = {CONFIG.num_heads}
HEAD_DIM = {CONFIG.d_kv}
MLP_DIM = {CONFIG.d_ff}
NUM_ENCODER_LAYERS = {CONFIG.num_encoder_layers}
NUM_DECODER_LAYERS = {CONFIG.num_decoder_layers}
MAX_INPUT_LEN = 32
MAX_OUTPUT_LEN = 8
BATCH_SIZE = 4
"""
WORDS = ["a", "the", "film", "plot", "is", "was", "good", "bad", "dull", "and", "never"]
ENVIRONMENT = {
  **os.environ,
  "JAX_PLATFORMS": "cpu",
  "JAX_COMPILATION_CACHE_DIR": str(REPO / ".cache" / "jax"),
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}


def process(arguments, model=(GIN, *SMALL), **options):
  """A real process of the command line."""
  return subprocess.Popen(
    [sys.executable, "-m", "prompt_tuning", "infer", *model, *arguments],
    cwd=REPO,
    env=ENVIRONMENT,
    stderr=subprocess.PIPE,
    **options,
  )


def finished(arguments, **options):
  """(status, stdout, stderr) of a process that runs to its end."""
  given = options.pop("input", None)
  with process(
    arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options
  ) as started:
    out, err = started.communicate(given)
  return started.returncode, out, err.decode()


def parsed(content):
  text = content.decode() if isinstance(content, bytes) else content
  return [json.loads(line) for line in text.split("\n")[:-1]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Two prompts, one of which has labels, and rows for both, neither, and for nobody."""
  folder = tmp_path_factory.mktemp("rows")
  rng = np.random.default_rng(0)
  free, ranked = (rng.normal(size=(n, 256)).astype(np.float32) for n in (5, 9))
  pt.save_prompt(str(folder / "free.safetensors"), free)
  labels = {"labels": ["good", "bad"]}
  pt.save_prompt(str(folder / "ranked.safetensors"), ranked, labels)
  with open(folder / "rows.jsonl", "w") as sink:
    for number, text in enumerate(texts(400, most=40)):
      row = {"id": f"ü{number}", "text": text, "task": ["free", "ranked", None][number % 3]}
      row["task"] = "nobody" if number % 100 == 50 else row["task"]
      sink.write(json.dumps(row) + "\n" if number % 90 != 89 else '{"id": \n')
  return folder


def texts(count, most=12):
  draw = random.Random(0)
  return [" ".join(draw.choices(WORDS, k=draw.randint(1, most))) for _ in range(count)]


def prompts(folder):
  return [f"--prompt={name}={folder / name}.safetensors" for name in ("free", "ranked")]


def mixed(folder, output):
  """The flags of the run that is killed: many small windows."""
  return [
    *prompts(folder),
    "--prompt-column=task",
    f"--input={folder / 'rows.jsonl'}",
    f"--output={output}",
    "--keep=id",
    "--gin.MAX_OUTPUT_LEN=6",
    "--window=32",
  ]


@pytest.fixture(scope="module")
def whole(folder):
  """The answers of a run that nobody interrupts."""
  status, out, err = finished(mixed(folder, folder / "whole.jsonl"))
  assert status == 1 and out == b"", err
  assert "8 could not be answered" in err
  return (folder / "whole.jsonl").read_bytes()


@pytest.mark.slow
def test_every_row_has_its_line(folder, whole):
  rows = (folder / "rows.jsonl").read_text().split("\n")[:-1]
  lines = parsed(whole)
  assert [line["row"] for line in lines] == list(range(400))
  for line, text in zip(lines, rows, strict=True):
    if "error" in line:
      unread = "it is no JSON" in line["error"]
      assert unread or "unknown prompt 'nobody'" in line["error"]
      assert list(line) == ["row", "error", *([] if unread else ["id"])]
      continue
    row = json.loads(text)
    assert (line["prompt"], line["id"]) == (row["task"], row["id"])
    assert ("scores" in line) == (row["task"] == "ranked")
    if row["task"] == "ranked":
      assert line["score"] == max(line["scores"].values())
      assert line["scores"][line["prediction"]] == line["score"]
      assert list(line["scores"]) == ["good", "bad"]


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_bytes(folder, whole):
  output = folder / "killed.jsonl"
  draw, kills = random.Random(time.time_ns()), 0
  for kill in range(3):
    before = output.stat().st_size if output.exists() else 0
    until = before + draw.randint(1, len(whole) // 4)
    with process(mixed(folder, output)) as started:
      while started.poll() is None and (
        not output.exists() or output.stat().st_size < until
      ):
        time.sleep(0.005)
      started.send_signal(signal.SIGKILL)
    kills += started.returncode == -signal.SIGKILL
    there = output.read_bytes()
    assert whole.startswith(there) and len(there) > before
    if kill % 2:  # as if it had died within a line
      output.write_bytes(there[: -draw.randint(1, 60)])
  assert kills >= 2
  assert finished(mixed(folder, output))[0] == 1
  assert output.read_bytes() == whole


@pytest.mark.slow
def test_a_pipe_is_answered_as_it_comes_and_a_reader_may_leave(folder):
  flags = ["--input=-", "--window=2", "--mode=rank", '--labels=["good", "so, bad"]']
  with process(flags, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
    for turn in range(3):
      started.stdin.write(b'{"text": "a film"}\n{"text": "a plot"}\n')
      started.stdin.flush()
      found = [json.loads(started.stdout.readline()) for _ in range(2)]
      assert [line["row"] for line in found] == [2 * turn, 2 * turn + 1]
      assert set(found[0]["scores"]) == {"good", "so, bad"} and found[0]["prompt"] is None
    started.stdout.close()
    started.stdin.write(b'{"text": "a film"}\n' * 9)
    started.stdin.close()
    err = started.stderr.read().decode()
  assert started.returncode == 0 and "Traceback" not in err and "Error" not in err, err


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(base, tmp_path):
  """A pipe of 200,000 rows, 100 MB: 16,000 are ranked among empty ones."""
  (tmp_path / "tiny.gin").write_text(PREDICTOR_GIN)
  model = f"--gin_file={tmp_path / 'tiny.gin'}", f"--gin.CHECKPOINT_PATH={str(base)!r}"
  output = tmp_path / "many.jsonl"
  flags = ["--input=-", f"--output={output}", "--mode=rank", "--label-column=words"]
  with process(flags, model, stdin=subprocess.PIPE) as started:
    threading.Thread(target=started.stderr.read, daemon=True).start()
    draw, sent = random.Random(0), 0

    def peak(asked, empty):
      """MiB once so many more rows have lines, but for those of the last window."""
      nonlocal sent
      for row in itertools.chain(ranked_rows(draw, asked), empty_rows(empty)):
        started.stdin.write(row)
      started.stdin.flush()
      sent += asked + empty
      while started.poll() is None and last_row(output) < sent - 2 * 32:
        time.sleep(0.05)
      status = pathlib.Path(f"/proc/{started.pid}/status").read_text()
      return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    least = peak(4000, 4000)  # all shapes are compiled by then
    growth = [peak(3000, 45_000) - least for _ in range(4)]
    started.stdin.close()
  assert started.returncode == 1 and max(growth) < 40
  lines = parsed(output.read_bytes())
  assert [line["row"] for line in lines] == list(range(200_000))
  assert sum("scores" in line for line in lines) == 16_000


def ranked_rows(draw, count):
  """Rows of many lengths that choose from labels of their own, few of them twice."""
  for _ in range(count):
    labels = draw.sample(WORDS, draw.randint(2, 4))
    if draw.random() < 0.5:
      labels[0] += " " + draw.choice(WORDS)
    text = " ".join(draw.choices(WORDS, k=draw.randint(1, 12)))
    yield json.dumps({"text": text, "words": labels}).encode() + b"\n"


def empty_rows(count):
  row = json.dumps({"text": " ", "words": None, "other": "x" * 450}).encode() + b"\n"
  return itertools.repeat(row, count)


def last_row(output):
  """The number in the last whole line of a file that is being written, or -1."""
  if not output.exists():
    return -1
  with open(output, "rb") as source:
    source.seek(max(0, source.seek(0, 2) - 4096))
    lines = source.read().split(b"\n")[:-1]
  return json.loads(lines[-1])["row"] if lines else -1


# In this process: what the answers are.


@pytest.fixture
def answered(run, tmp_path):
  """Runs over rows given as text; (status, lines, stderr)."""

  def call(name, content, *flags):
    source = tmp_path / name
    content = content if isinstance(content, bytes) else content.encode()
    source.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    found = run(["infer", GIN, *SMALL, f"--input={source}", *flags])
    return found.status, parsed(found.out), found.err

  return call


def test_prompts_in_one_file_answer_as_each_alone(answered, folder):
  asked = texts(24)
  names = ["free", "ranked", ""]
  mixed_rows = "text,task\n" + "".join(f"{t},{names[i % 3]}\n" for i, t in enumerate(asked))
  flags = ["--mode=rank", "--labels=negative,positive"]
  status, found, _ = answered(
    "x.csv.gz", mixed_rows, *flags, "--prompt-column=task", *prompts(folder)
  )
  assert status == 0
  for place, name in enumerate(names):
    given = [f"--prompt={name}={folder / name}.safetensors"] if name else []
    _, alone, _ = answered("y.txt", "\n".join(asked[place::3]), *flags, *given)
    assert [line["prompt"] for line in found[place::3]] == [name or None] * 8
    assert [line["prompt"] for line in alone] == [name or None] * 8
    for one, other in zip(found[place::3], alone, strict=True):
      assert one["prediction"] == other["prediction"]
      for word in ("negative", "positive"):
        assert one["scores"][word] == pytest.approx(other["scores"][word], abs=1e-5)


def test_scores_are_those_of_ranking(answered, folder):
  prompt = f"--prompt=p={folder / 'free.safetensors'}"
  rows = [
    {"t": text, "goal": goal} for text in texts(3) for goal in ("good", "not so good")
  ]
  content = "\n".join(map(json.dumps, rows))
  for flag in ([], ["--length-normalized"]):
    given = [prompt, "--template=review: {t}", *flag]
    status, found, _ = answered(
      "x.jsonl", content, *given, "--mode=score", "--target-column=goal"
    )
    assert status == 0 and all(line.keys() == {"row", "prompt", "score"} for line in found)
    _, ranked, _ = answered(
      "x.jsonl", content, *given, "--mode=rank", "--labels=good,not so good"
    )
    for line, row, other in zip(found, rows, ranked, strict=True):
      assert line["score"] == pytest.approx(other["scores"][row["goal"]], abs=1e-5)


def test_labels_of_rows_go_before_those_of_prompts_and_of_all(answered, folder):
  rows = [
    {"text": "a film", "task": "ranked", "words": ["x", "y z"]},
    {"text": "a film", "task": "ranked", "words": "u|v"},
    {"text": "a film", "task": "ranked", "words": None},
    {"text": "a film", "task": "free", "words": []},
    {"text": "a film", "task": "", "words": ""},
    {"text": "a film", "task": None, "words": [1]},
  ]
  status, found, err = answered(
    "x.jsonl",
    "\n".join(map(json.dumps, rows)),
    *prompts(folder),
    "--mode=rank",
    "--prompt-column=task",
    "--label-column=words",
    "--labels=yes,no",
    "--labels=free=one,two,three",
  )
  assert status == 1 and "6 rows, 6 of them answered now; 1 could not" in err
  assert [list(line.get("scores", [])) for line in found] == [
    ["x", "y z"],
    ["u", "v"],
    ["yes", "no"],
    ["one", "two", "three"],
    ["yes", "no"],
    [],
  ]
  assert "the labels are [1], expected words" in found[-1]["error"]


def test_every_kind_of_broken_row_has_a_line(answered, folder):
  rows = [
    b'{"text": "a film", "id": 1}',
    b'{"text": ',
    b'{"txt": "a film", "id": 2}',
    b'{"text": "", "id": [3], "more": NaN}',
    b'{"text": null, "id": NaN, "more": 4}',
    b'{"text": "' + b"film " * 500 + b'"}',
    b'{"text": "\xff", "id": "\xff"}',
    b'{"text": "good", "id": NaN, "more": 7}',
    b'{"text": "good", "id": "\xff"}',
    '{"text": "好", "id": {"a": ["\u2028"]}}'.encode(),
  ]
  prompt = f"--prompt=p={folder / 'ranked.safetensors'}"
  status, found, _ = answered("x.jsonl", b"\r\n".join(rows), prompt, "--keep=id,more")
  assert status == 1 and [line["row"] for line in found] == list(range(10))
  errors = [line.get("error", "") for line in found]
  assert [bool(error) for error in errors] == [False, *[True] * 7, False, False]
  for error, part in zip(
    errors[1:8],
    ("no JSON", "no column 'text'", "empty", "no value", "tokens", "UTF-8", "JSON"),
    strict=True,
  ):
    assert part in error
  kept = [[line.get(name, "left out") for name in ("id", "more")] for line in found[:8]]
  assert kept == [
    [1, None],
    ["left out", "left out"],
    [2, None],
    [[3], "left out"],
    ["left out", 4],
    [None, None],
    ["\udcff", None],
    ["left out", 7],
  ]
  assert list(found[2]) == ["row", "error", "id", "more"]
  assert found[0]["id"] == 1 and found[8]["id"] == "\udcff"
  assert found[9]["id"] == {"a": ["\u2028"]}


@pytest.mark.parametrize("broken", ['"good" film', '"a film'])
def test_a_stray_quote_ends_the_run_until_it_is_repaired(answered, tmp_path, broken):
  output = tmp_path / "out" / "answers.jsonl"
  lines = ["text", "a film", '"a, plot"', "good", broken, "bad", "dull"]
  given = ["--mode=rank", "--labels=yes,no", f"--output={output}", "--window=2"]
  for turn in range(2):
    status, _, err = answered("x.csv", "\n".join(lines), *given)
    assert status == 2 and "x.csv line 5: its quotes do not match" in err, turn
    assert "correct the line and give the same command again" in err
    there = output.read_bytes()
    assert [line["row"] for line in parsed(there)] == [0, 1, 2]
  lines[4] = '"""good"" film"'
  status, _, err = answered("x.csv", "\n".join(lines), *given)
  assert status == 0 and "6 rows, 3 of them answered now" in err
  assert output.read_bytes().startswith(there)
  assert [line["row"] for line in parsed(output.read_bytes())] == list(range(6))


def test_names_of_other_columns_end_no_run(answered):
  rows = '{"text": "good", "a\\u0000": 1}\n{"text": "bad", "\\udcff": 1}\n'
  status, found, err = answered("x.jsonl", rows, "--mode=rank", "--labels=yes,no")
  assert status == 0 and len(found) == 2, err


def test_another_model_at_the_same_path_is_not_continued(run, save_t5, tmp_path):
  save_t5(tmp_path / "model", seed=0)
  (tmp_path / "tiny.gin").write_text(PREDICTOR_GIN)
  source, output = tmp_path / "x.txt", tmp_path / "answers.jsonl"
  source.write_text("a film\na plot\n")
  arguments = ["infer", f"--gin_file={tmp_path / 'tiny.gin'}", f"--input={source}"]
  arguments += [f"--gin.CHECKPOINT_PATH={str(tmp_path / 'model')!r}", f"--output={output}"]
  assert run(arguments).status == 0
  before = output.read_bytes()
  (tmp_path / "model").rename(tmp_path / "first")
  save_t5(tmp_path / "model", seed=1)
  assert "is complete: 2 rows" in run(arguments).err  # it needs no model
  source.write_text("a film\na plot\ngood\n")
  found = run(arguments)
  assert found.status == 2 and "answers of a model whose fingerprint is" in found.err
  assert output.read_bytes() == before
  (tmp_path / "model").rename(tmp_path / "second")
  (tmp_path / "first").rename(tmp_path / "model")
  assert "3 rows, 1 of them answered now" in run(arguments).err


def test_other_rows_or_settings_are_not_continued(answered, folder, tmp_path):
  output = tmp_path / "out" / "answers.jsonl"
  given = [f"--prompt=p={folder / 'ranked.safetensors'}", f"--output={output}"]
  content = "\n".join(texts(10)) + "\n"
  assert answered("x.txt", content, *given)[0] == 0
  before = output.read_bytes()
  status, _, err = answered("x.txt", content, *given, "--labels=yes,no")
  assert status == 2 and "  labels: None before, ('yes', 'no') now" in err
  status, _, err = answered("x.txt", content, *given, "--gin.MAX_INPUT_LEN=32")
  assert status == 2 and "  longest input: 64 before, 32 now" in err
  for other in (content.replace(" ", "  ", 1), content[: content.index("\n") + 1], ""):
    status, _, err = answered("x.txt", other, *given)
    assert status == 2 and "are not those that" in err and "choose another" in err
  assert output.read_bytes() == before
  status, _, err = answered("x.txt", content + "one more\n", *given)
  assert status == 0 and "11 rows, 1 of them answered now" in err
  assert output.read_bytes().startswith(before)
  rng = np.random.default_rng(1)
  pt.save_prompt(str(tmp_path / "new.npy"), rng.normal(size=(9, 256)).astype(np.float32))
  status, _, err = answered(
    "x.txt", content, f"--prompt=p={tmp_path / 'new.npy'}", given[1]
  )
  assert status == 2 and "  prompt 'p': " in err
