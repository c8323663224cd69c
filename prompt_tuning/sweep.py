"""Many prompts in one frozen pass: seeds, learning rates, starts and tasks at once.

MODEL_DIR/
  config.gin  model-info.txt      what ran
  members/<name>/                 what `train` leaves of a prompt:
    metrics.jsonl  train/  numpy_checkpoints/  prompt.safetensors
  run_state/                      to continue after an interruption
  prompt.safetensors              the best prompt, where all have one task
  summary.json  sweep.md  sweep.svg

The model is frozen, so prompts do not see each other (`training.members`): each is what
`train` makes of the same settings. A member whose patience runs out, or which is no number
any more, leaves; the others go on without it.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from prompt_tuning import (
  assembly,
  distributed,
  files,
  judge,
  loop,
  metrics_log,
  progress,
  sweep_results,
  trees,
)
from prompt_tuning.best import overall
from prompt_tuning.checkpoints import run_state
from prompt_tuning.partitioning import Layout
from prompt_tuning.prompts.prompted import t5x_path
from prompt_tuning.sweep_bank import Bank
from prompt_tuning.sweep_config import Member, SweepConfig
from prompt_tuning.sweep_feeds import Feeds
from prompt_tuning.sweep_memory import DIVERGED, TIRED, Memory, Record
from prompt_tuning.training.steps import Sums


def sweep(config: SweepConfig, config_text: str = "") -> dict[str, Any]:
  """Runs to the end, from wherever an earlier process was interrupted.

  Args:
    config: The sweep.
    config_text: The gin text it came from, written to `config.gin`.

  Returns:
    The summary, as written to `summary.json`; see `sweep_report`.

  Raises:
    InputError: Something given cannot be used, or no member has a number for a loss.
    Preempted: The process was told to stop (SIGTERM) and has saved.
  """
  config.check()
  run = config.run
  folder = files.output_folder(run.model_dir, "MODEL_DIR")
  distributed.share(folder, "MODEL_DIR")
  layout = run.partitioner.layout(run.train_dataset.batch_size)
  base = run.learned.load(run.model, run.checkpoint, layout)
  with loop.session(folder, keep=run.trainer.keep) as session:
    work = _Sweep(config, base, layout, session)
    if distributed.is_first():
      (folder / "config.gin").write_text(config_text)
      (folder / "summary.json").unlink(missing_ok=True)
    work.train()
    records = work.memory.records
    return sweep_results.finish(config, records, work.judge, layout, folder)


class _Sweep:
  """The objects of a sweep, and what its loop asks of them (`loop.Work`)."""

  def __init__(
    self,
    config: SweepConfig,
    base: assembly.Base,
    layout: Layout,
    session: loop.Session,
  ):
    self.run, self.base, self.session = config.run, base, session
    self.folder, members = session.folder, config.members()
    self.examples = 0  # see `loop.Work`; an example counts for each that has it
    self.first, self.last = self.run.trainer.steps(base.step)
    self.members = {member.name: member for member in members}
    self.feeds = Feeds(members, layout)  # fails here, not later
    self.memory = Memory(self._identity(), {member.name: Record() for member in members})
    found = session.resumed(self.memory.identity)
    if found is not None:
      self.memory = Memory.of(found.memory)
    # Where all have left, the state is of no use.
    self.bank = Bank(config, base, layout, self.running or members)
    if found is not None and self.running:
      self.bank.resume(found)
    if distributed.is_first():
      text = trees.describe(self.bank.described(config.prompt), t5x_path)
      (self.folder / "model-info.txt").write_text(text + "\n")
    one = members[0].run  # what its packing depends on is the same for all
    self.judge = judge.Judge(one, base, self.bank.split, self.bank.frozen, layout)
    self.evaluations: dict[str, Any] = {}
    for member in members:
      judged, test, task = member.run.eval_dataset, member.run.test_dataset, member.task
      if judged is not None and test is not None and task not in self.evaluations:
        self.evaluations[task] = self.judge.evaluation(judged)
        self.judge.find(test)

  def _identity(self) -> dict[str, str]:
    """Settings that must not change; of each, what the members have."""
    found: dict[str, dict[str, None]] = {}
    for member in self.members.values():
      settings = {
        **member.run.identity(self.base),
        **self.feeds.identity(member),
        **judge.identity(member.run.eval_dataset),
      }
      for name, value in settings.items():
        found.setdefault(f"{name} of members", {})[value] = None
    return {
      "members": ", ".join(self.members),
      **{name: " | ".join(values) for name, values in found.items()},
    }

  @property
  def running(self) -> list[Member]:
    """The members of the bank, in its order."""
    records = self.memory.records
    return [m for name, m in self.members.items() if records[name].end is None]

  def train(self) -> None:
    """Runs the loop from where it stands."""
    periods = loop.Periods.of(self.run.trainer, self.first, self.last)
    self.session.run(self, periods, self.bank.done, "sweep")

  @property
  def stopped(self) -> bool:
    """See `loop.Work`."""
    return not self.running

  def log(self, done: int) -> metrics_log.MetricsLogs:
    """See `loop.Work`; opens the data too."""
    data = run_state.data_folder(self.folder, done)
    self.feeds.open(self.running, done - self.first, data)
    folders = {m.name: self.folder / m.folder for m in self.running}
    return metrics_log.MetricsLogs(folders, done)

  def step(self, done: int) -> Sums:
    """See `loop.Work`."""
    self.memory.sums.append(self.bank.step(self.feeds.batch(self.running)))
    self.examples += self.feeds.held
    return self.memory.sums[-1]

  def stats(self, done: int) -> loop.Values:
    """See `loop.Work`; members whose loss is no number leave."""
    values: loop.Values = {}
    found, self.memory.sums = jax.device_get(self.memory.sums), []
    left = {}
    for place, member in enumerate(self.running):
      rows = [{name: sums[name][place] for name in sums} for sums in found]
      row = self.run.loss.metrics(rows)
      row["learning_rate"] = float(member.run.learning_rate_fn(done - 1))
      if np.isfinite(row["loss"]):
        values |= {f"{member.name}/{name}": value for name, value in row.items()}
      else:
        left[member.name] = DIVERGED
    self._leave(left, done)
    return values

  def shown(self, values: loop.Values) -> loop.Values:
    """See `loop.Work`; means over the members."""
    found = {}
    for name in ("loss", "accuracy"):
      each = [v for key, v in values.items() if key.endswith(f"/{name}")]
      found[name] = float(np.mean(each)) if each else float("nan")
    return {**found, "members": len(self.running)}

  def _leave(self, left: Mapping[str, str], done: int) -> None:
    """Members, by name with the reason, leave; what they occupied is free."""
    if not left:
      return
    stay = [place for place, m in enumerate(self.running) if m.name not in left]
    for name, why in left.items():
      record = self.memory.records[name]
      record.end, record.last_step = why, done
      progress.say(f"{name} leaves at step {done}: {why}; {len(stay)} members stay")
    if stay:
      self.memory.sums = [
        {name: np.asarray(values)[stay] for name, values in sums.items()}
        for sums in jax.device_get(self.memory.sums)
      ]
      self.bank.keep(stay)

  def _diverged_leave(self, done: int) -> None:
    finite = self.bank.finite()
    left = [m.name for m, fine in zip(self.running, finite, strict=False) if not fine]
    self._leave(dict.fromkeys(left, DIVERGED), done)

  def evaluate(self, done: int) -> loop.Values:
    """See `loop.Work`; members whose patience runs out leave."""
    self._diverged_leave(done)
    values: loop.Values = {}
    left = {}
    for place, member in enumerate(self.running):
      params = self.bank.params(place)
      found = self._evaluate(member, params, done)
      values |= {f"{member.name}/{name}": value for name, value in found.items()}
      if self.memory.records[member.name].best.stopped:
        member.run.learned.save_step(self.folder / member.folder, done, params)
        left[member.name] = TIRED
    self._leave(left, done)
    return values

  def _evaluate(self, member: Member, params: judge.Params, done: int) -> loop.Values:
    """Evaluates one member, and keeps its prompt if it is its best."""
    record, trainer = self.memory.records[member.name], self.run.trainer
    if member.run.eval_dataset is None:
      record.best.keep(done, 0.0, {})
      self._save_best(member, params)
      return {}
    evaluation = self.evaluations[member.task]
    found = self.judge.metrics(evaluation, params, done)
    score = overall(found, trainer.metric)
    record.scores.append((done, score))
    if record.best.sees(done, score, found, trainer.patience):
      self._save_best(member, params)
    progress.say(
      f"step {done}: {member.name} {json.dumps(found)} best {record.best.score:.2f}"
    )
    return {**judge.flat(found), **self.judge.teacher_forced(evaluation, params)}

  def _save_best(self, member: Member, params: judge.Params) -> None:
    story = member.run.story(self.base, self.memory.records[member.name].best)
    member.run.learned.save_best(self.folder / member.folder, params, story)

  def save(self, done: int) -> None:
    """See `loop.Work`."""
    self._diverged_leave(done)
    for place, member in enumerate(self.running):
      folder = self.folder / member.folder
      member.run.learned.save_step(folder, done, self.bank.params(place))
    self.memory.sums = [
      {name: np.asarray(values).tolist() for name, values in sums.items()}
      for sums in jax.device_get(self.memory.sums)
    ]
    self.feeds.save(self.running, run_state.data_folder(self.folder, done))
    self.session.saver.save(done, self.bank.state, dataclasses.asdict(self.memory))


if __name__ == "__main__":
  from prompt_tuning.cli.main import main

  sys.exit(main(["sweep", *sys.argv[1:]]))
