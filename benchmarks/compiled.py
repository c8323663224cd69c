"""Our training step without arrays, compiled in a process of its own; see `worker`.

It is that of the case "equal" of `ours`.
"""

import dataclasses
import time
from functools import partial

import worker

if __name__ == "__main__":
  worker.on_two_cores()

import jax
import jax.numpy as jnp
import ours

from prompt_tuning import trees
from prompt_tuning.models import kernels
from prompt_tuning.models.kernels import Kernel
from prompt_tuning.models.parameters import Parameters
from prompt_tuning.models.t5 import T5
from prompt_tuning.prompts.bank import PromptBank
from prompt_tuning.prompts.prompted import PromptedT5
from prompt_tuning.training import losses, steps
from prompt_tuning.training import state as states
from prompt_tuning.training.losses import Loss


def lowered(layers: int, kernel: Kernel) -> jax.stages.Lowered:
  """The step of "equal", so many layers in each tower, without arrays."""
  config = dataclasses.replace(
    ours.CONFIG, num_encoder_layers=layers, num_decoder_layers=layers
  )
  source = dataclasses.replace(Parameters.abstract(), kernel=kernel)
  bank = PromptBank.abstract((1, 100, config.d_model))
  split = states.Split.of(PromptedT5(T5(config, source), bank))
  state = jax.eval_shape(
    lambda params, key: states.TrainState(
      jnp.zeros((), jnp.int32), params, ours.optimizer().init(params), key
    ),
    trees.values(split.tunable),
    jax.eval_shape(lambda: jax.random.key(0)),
  )
  batch = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in next(ours.equal()).items()}
  return steps.train_step(split, ours.optimizer(), Loss()).lower(state, split.frozen, batch)


def compiling(layers: int) -> worker.Answer:
  """Seconds from nothing to the compiled step."""
  began = time.perf_counter()
  lowered(layers, kernels.best(jax.default_backend())).compile()
  return {"seconds": time.perf_counter() - began}


def operations() -> worker.Answer:
  """Those of a step, as the compiler counts them.

  Attention and losses are made without loops, whose bodies would count once.
  """
  losses.where_weighted = lambda of_tokens, weights, *rows: of_tokens(*rows)
  counted = lowered(ours.CONFIG.num_encoder_layers, kernels.plain).compile().cost_analysis()
  return {"flops": (counted or {})["flops"]}


if __name__ == "__main__":
  worker.answer(
    {"operations": operations} | {str(n): partial(compiling, n) for n in (8, 24)}
  )
