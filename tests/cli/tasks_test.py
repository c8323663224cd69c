"""`prompt-tuning tasks`: the list, and one task looked at."""

import pytest

from prompt_tuning.cli.main import main
from prompt_tuning.data import vocabularies

EMBEDDED = f"--vocabulary={vocabularies.EMBEDDED.name}"


@pytest.fixture
def tasks(capfd):
  """Calls the command: status, stdout, stderr."""

  def call(*arguments: str) -> tuple[int, str, str]:
    capfd.readouterr()
    status = main(["tasks", *arguments])
    return status, *capfd.readouterr()

  yield call
  vocabularies.use(None)


def test_a_pattern_lists_what_matches_with_splits_metrics_and_data(tasks, tmp_path):
  status, out, _ = tasks("taskless_super_glue_*_v102", f"--tfds_data_dir={tmp_path}")
  assert status == 0
  head, *rows = out.splitlines()
  assert head.split() == ["name", "splits", "metrics", "data"]
  names = [row.split()[0] for row in rows]
  assert names == sorted(names) and "taskless_super_glue_cb_v102" in names
  (row,) = [row for row in rows if row.startswith("taskless_super_glue_cb_v102")]
  assert row.split("  ")[-1].strip() == "super_glue/cb:1.0.2 missing"
  assert "train, validation, test" in row and "mean_multiclass_f1, accuracy" in row


def test_everything_is_listed_without_a_name(tasks):
  status, out, _ = tasks()
  assert status == 0
  assert len(out.splitlines()) > 1100
  assert "no TFDS data needed" in next(
    row for row in out.splitlines() if row.startswith("movie_reviews_sentiment ")
  )


def test_one_task_is_shown_with_examples_lengths_and_labels(tasks):
  lengths = ("--inputs_length=30", "--targets_length=4", "--examples=2")
  status, out, _ = tasks("movie_reviews_sentiment", EMBEDDED, "--split=test", *lengths)
  assert status == 0
  assert "test: 1,000 examples" in out
  assert "longer than 30: " in out and "which are cut" in out
  counts = [row.split()[1] for row in out.splitlines() if "positive  " in row]
  assert counts == ["482"]  # of a thousand; the majority of the demo is 51.8 % negative
  assert out.count("  example ") == 2
  assert "inputs (" in out and " tokens): " in out


def test_files_of_one_s_own_are_shown_too(tasks, tmp_path):
  (tmp_path / "a.csv").write_text("text,label\ngood film,1\nbad film,0\n")
  status, out, _ = tasks(
    "own_data",
    EMBEDDED,
    "--gin_file=tables/table.gin",
    f"--gin.TRAIN_FILE='{tmp_path / 'a.csv'}'",
    "--gin.INPUT_TEMPLATE='review: {text}'",
    "--gin.TARGET_COLUMN='label'",
    "--gin.LABEL_WORDS={'0': 'negative', '1': 'positive'}",
  )
  assert status == 0
  assert "train: 2 examples" in out and "review: good film" in out
  assert "train 2" in out  # the sizes of its splits are known


def test_only_so_many_examples_are_counted(tasks):
  _, out, _ = tasks("movie_reviews_sentiment", EMBEDDED, "--limit=7", "--examples=0")
  assert "train: 7 or more examples" in out
  assert "  example " not in out


def test_a_mixture_shows_its_members_and_rates(tasks):
  status, out, _ = tasks("task_index_super_glue_v102_examples_proportional")
  assert status == 0
  assert "task_index_super_glue_record_v102_examples 138854" in out
  assert "task_index_super_glue_wsc_v102_simple_eval_examples 0" in out


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["movie_review_sentiment"], "nearest known: movie_reviews_sentiment"),
    (["no_such_*"], "unknown pattern 'no_such_*'"),
    (["movie_reviews_sentiment", EMBEDDED, "--split=dev"], "unknown split"),
    (["movie_reviews_sentiment", "--vocabulary=/nowhere.model"], "/nowhere.model"),
    (["movie_reviews_sentiment", "--limit=0"], "--limit is 0"),
    (["--module=no_such_module"], "there is no module 'no_such_module'"),
  ],
)
def test_what_cannot_be_shown_is_said_in_one_sentence(tasks, arguments, message):
  status, out, err = tasks(*arguments)
  assert (status, out) == (2, "")
  assert message in err and "Traceback" not in err


def test_missing_data_end_in_a_sentence(tasks, tmp_path, monkeypatch):
  for name in ("http_proxy", "https_proxy", "all_proxy"):
    monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(name.upper(), raising=False)
  # A name that never resolves (RFC 2606) stands for every name of a machine offline.
  monkeypatch.setattr("prompt_tuning.data.tfds_store._HOST", "no-such-host.invalid")
  status, _, err = tasks("byt5_glue_qnli_v200", f"--tfds_data_dir={tmp_path}")
  assert status == 2
  assert "glue/qnli:2.0.0 of byt5_glue_qnli_v200 is not in" in err and "offline" in err
