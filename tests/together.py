"""One of two processes that add up together, for `preemption_test.py`.

python tests/together.py PORT NUMBER FOLDER

Every 20th step they save, each with a file of its own beside the state. Where FOLDER/broken
exists, that of step 20 cannot be written.
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from prompt_tuning import checks
from prompt_tuning.checkpoints import run_state
from prompt_tuning.preemption import EXIT_PREEMPTED, Preempted, Preemption


def start(folder):
  """The step to go on from and the state: a vector in four pieces, and a counter."""
  mesh = jax.make_mesh((4,), ("data",), (AxisType.Auto,))
  pieces = {"sums": PartitionSpec("data"), "count": PartitionSpec()}
  placed = {name: NamedSharding(mesh, spec) for name, spec in pieces.items()}
  state = {"sums": np.zeros(4, np.float32), "count": np.zeros((), np.int32)}
  newest = run_state.latest(folder)
  print("from", newest, flush=True)
  if newest is not None:
    state = run_state.load(folder, newest).onto(state)

  def put(array, sharding):
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda i: array[i])

  def add(state):
    mean = jnp.mean(state["sums"])  # what the other process has is needed, too
    sums = state["sums"] + jnp.arange(4.0) + 0.0 * mean
    return {"sums": sums, "count": state["count"] + 1}

  step = jax.jit(add, donate_argnums=0, out_shardings=placed)
  return newest or 0, jax.tree.map(put, state, placed), step


def run(number, folder):
  with run_state.Saver(folder) as saver, Preemption() as preemption:
    done, state, step = start(folder)
    while True:
      state = step(state)
      done += 1
      time.sleep(0.005)
      print(done, flush=True)
      stop = preemption.reached(done)
      if stop or done % 20 == 0:
        data = run_state.data_folder(folder, done)
        data.mkdir(parents=True, exist_ok=True)
        (data / f"{number}.txt").write_text(str(done))
        if (folder / "broken").exists():
          (folder / "run_state" / "step_20.safetensors").mkdir(exist_ok=True)
        saver.save(done, state, {"done": done})
      if stop:
        saver.wait()
        raise Preempted(done)


def main(port, number, folder):
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", 2)
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  jax.distributed.initialize(f"localhost:{port}", 2, number)
  try:
    run(number, folder)
  except Preempted as told:
    print("stopped", told.step, flush=True)
    return EXIT_PREEMPTED
  except checks.InputError as error:
    print(error, flush=True)
    return 2


if __name__ == "__main__":
  sys.exit(main(sys.argv[1], int(sys.argv[2]), epath.Path(sys.argv[3])))
