"""Multi-task prompts: what all tasks share and what each has of its own make its prompt.

With a shared prompt S and rows R_t of task t, for a prompt of three tokens:

  alone              R_t R_t R_t
  add                S + R_t  S + R_t  S + R_t
  concat             S R_t R_t                       tokens of both, one behind the other
  concat_features    [S|R_t] [S|R_t] [S|R_t]         features of both side by side
  project            W_t S + b_t  (three times)      W_t, b_t are the rows

Tasks are told apart by the first token of the inputs (`first_token`). Trained prompts are
"alone": a bank of num_tasks plain prompts, in which the same token chooses. As everywhere,
everybody sees everybody unless PROMPT_VISIBILITY says otherwise; the original's multi-task
prompts were causal, without a word: ['prompt->input', 'prompt->prompt;causal'].
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from prompt_tuning import checks
from prompt_tuning.methods import making
from prompt_tuning.methods.first_token import FirstToken
from prompt_tuning.methods.method import Folded, Given
from prompt_tuning.prompts import prompted
from prompt_tuning.prompts.bank import PATH, PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.prompts.start import Prompt, RandomUniform, Start
from prompt_tuning.prompts.steering import Steering
from prompt_tuning.types import Array, ArrayLike, Shape, Tunable

ALONE = "alone"
_PLACE = PATH.rpartition("/")[0]
_NAMES = {
  "bank/prompts": f"{_PLACE}/task_prompts/embedding",
  "bank/through/shared": f"{_PLACE}/shared_prompt",
}


def add(rows: Array, shared: Array) -> Array:
  """Rows [num_tasks, prompt_len, d_model] and a prompt [prompt_len, d_model]."""
  return rows + shared[None]


def concat(rows: Array, shared: Array) -> Array:
  """Rows [num_tasks, task_tokens, d_model] behind a prompt [rest, d_model]."""
  return jnp.concatenate([_repeated(shared, rows), rows], axis=1)


def concat_features(rows: Array, shared: Array) -> Array:
  """Rows [num_tasks, prompt_len, task_features] beside a prompt [prompt_len, rest]."""
  return jnp.concatenate([_repeated(shared, rows), rows], axis=2)


def project(rows: Array, shared: Array) -> Array:
  """Rows [num_tasks, 1, d_model * features + d_model], first W then b; see above."""
  features = shared.shape[1]
  d_model = rows.shape[2] // (features + 1)
  kernels, biases = jnp.split(rows[:, 0], [d_model * features], axis=1)
  kernels = kernels.reshape(-1, d_model, features)
  projected = jnp.einsum("tdf,pf->tpd", kernels, shared)
  return projected + jnp.broadcast_to(biases[:, None], projected.shape)


def _repeated(shared: Array, rows: Array) -> Array:
  return jnp.broadcast_to(shared, (rows.shape[0], *shared.shape))


HOW: dict[str, Callable[[Array, Array], Array]] = {
  "add": add,
  "concat": concat,
  "concat_features": concat_features,
  "project": project,
}


class Shared(nnx.Module):
  """The rows of all tasks -> their prompts [num_tasks, prompt_len, d_model].

  Args:
    how: One of `HOW`.
    shared: [tokens, features].
  """

  def __init__(self, how: Callable[[Array, Array], Array], shared: Array):
    self._how = how
    self.shared = Tunable(shared, axes=("prompt", "prompt_embed"))

  def __call__(self, rows: Array) -> Array:
    """See above."""
    return self._how(rows, self.shared[...])


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiTask:
  """A prompt for each of several tasks, which learn together.

  With P = prompt_len, H = d_model and T = num_tasks there learn

    alone              T * P * H
    add                P * H + T * P * H
    concat             (P - task_tokens) * H + T * task_tokens * H
    concat_features    P * (H - task_features) + T * P * task_features
    project            P * shared_features + T * H * (shared_features + 1)

  and T * P * H are left.

  Attributes:
    prompt: Of all its length, what is shared included, whose start is the shared one's (the
      first of its tokens and features).
    num_tasks: T.
    how: One of the above.
    task_tokens: For "concat"; None is half of them.
    task_features: For "concat_features"; None is half of them.
    shared_features: For "project"; None is d_model.
    start: How the rows of the tasks start; those of "project" only uniformly.
  """

  prompt: Prompt
  num_tasks: int = 8
  how: str = "add"
  task_tokens: int | None = None
  task_features: int | None = None
  shared_features: int | None = None
  start: Start = RandomUniform()
  name = "multi_task"
  leaves_prompts = False

  def __post_init__(self):
    checks.choice("MULTI_TASK_PROMPT", self.how, [ALONE, *HOW])
    if not isinstance(self.num_tasks, int) or self.num_tasks < 1:
      raise checks.InputError(
        f"NUM_TASKS is {self.num_tasks!r}, expected how many tasks there are; set it"
      )
    if self.prompt.num_prompts != 1:
      raise checks.InputError(
        f"num_prompts is {self.prompt.num_prompts}, expected 1 shared prompt; NUM_TASKS "
        "says how many tasks have prompts"
      )
    if self.how == "project" and not isinstance(self.start, RandomUniform):
      raise checks.InputError(
        f"the tasks' projections start as {self.start}, expected prompts.RandomUniform: "
        "they are no prompts; choose that"
      )

  def steered(self, given: Given) -> PromptedT5:
    """See `Method`."""
    vocabulary = given.vocabulary()
    if self.num_tasks > vocabulary.extra_ids:
      raise checks.InputError(
        f"NUM_TASKS is {self.num_tasks}, expected at most {vocabulary.extra_ids}, the "
        "sentinels of the vocabulary; lower it, or raise its extra_ids (T5: 100)"
      )
    steering = Steering(sentinel=FirstToken(self.num_tasks, vocabulary.vocab_size))
    visibility = given.visibility
    return PromptedT5(
      given.model, self._bank(given), visibility=visibility, steering=steering
    )

  def _bank(self, given: Given) -> PromptBank:
    d_model = given.model.config.d_model
    shared, own = self._shapes(d_model)
    drawn = own if self.how == "project" else (own[0], d_model)
    draw = self.start.initializer(given.table, given.vocabulary)
    keys = jax.random.split(jax.random.fold_in(given.key, 1), self.num_tasks)
    rows = jnp.stack([draw(key, drawn) for key in keys])[..., : own[1]]
    if self.how == ALONE:
      return PromptBank(rows)
    (start,) = given.prompts(self.prompt)
    return PromptBank(rows, through=Shared(HOW[self.how], start[: shared[0], : shared[1]]))

  def _shapes(self, d_model: int) -> tuple[Shape, Shape]:
    """Of the shared prompt, and of the rows of a task."""
    length = self.prompt.length
    if self.how == "concat":
      own = _part("TASK_TOKENS", self.task_tokens, length)
      return (length - own, d_model), (own, d_model)
    if self.how == "concat_features":
      own = _part("TASK_FEATURES", self.task_features, d_model)
      return (length, d_model - own), (length, own)
    if self.how == "project":
      features = d_model
      if self.shared_features is not None:
        features = _part("SHARED_FEATURES", self.shared_features, d_model + 1)
      return (length, features), (1, d_model * features + d_model)
    return (length, d_model), (length, d_model)

  def folded(self, trained: Mapping[str, ArrayLike]) -> Folded:
    """The prompts of all tasks, "alone"."""
    found = making.rows(trained)
    if self.how != ALONE:
      found = HOW[self.how](found, making.through(trained)["shared"])
    plain = MultiTask(prompt=self.prompt, num_tasks=self.num_tasks, how=ALONE)
    return Folded(making.prompts(found).tensors, plain)

  def t5x_path(self, path: str) -> str:
    """encoder/prompt/prompt/{shared_prompt,task_prompts/embedding}."""
    return _NAMES.get(path) or prompted.t5x_path(path)


def _part(macro: str, found: int | None, whole: int) -> int:
  """How much of `whole` is a part, half unless it is given."""
  part = whole // 2 if found is None else found
  if not isinstance(part, int) or not 0 < part < whole:
    raise checks.InputError(
      f"{macro} is {part!r}, expected 1 to {whole - 1}, so that something of {whole} is "
      "left; choose another"
    )
  return part
