"""`prompt-tuning plan`: what a training run needs of devices that need not be here."""

import argparse
import json
from collections.abc import Sequence

from prompt_tuning import checks, config
from prompt_tuning.cli import flags, runs

# What a plan does not need, and the paper's lengths.
OTHERWISE = {
  "MIXTURE_OR_TASK_NAME": "",
  "MODEL_DIR": "",
  "INITIAL_CHECKPOINT_PATH": "",
  "TRAIN_STEPS": 1,
  "TASK_FEATURE_LENGTHS": {"inputs": 512, "targets": 16},
}
_HBM = {"v4": 32, "v5e": 16, "v5p": 95, "v6e": 32}  # GiB of a TPU chip


def main(command: str, arguments: Sequence[str]) -> int:
  """Prints the plan; 1 where the run does not fit as it is."""
  parser = flags.Parser(
    prog=f"prompt-tuning {command}",
    description="Plans a training step on devices that need not be here: parameters, bytes "
    "and FLOPs per device, whether it fits, and which settings make it fit. Settings that "
    "it does not need may be missing; lengths are then 512 and 16. Exit status 1 if the "
    "run does not fit as it is.",
    epilog="a line that works as pasted:\n"
    "  prompt-tuning plan --gin_file=models/t5_1_1_xxl_prompt.gin \\\n"
    "    --gin_file=runs/prompt_finetune.gin --gin.BATCH_SIZE=32 --devices 32 --hbm 16GiB",
  )
  flags.add_gin(parser)
  add = parser.add_argument
  add("--devices", type=int, metavar="N", help="how many")
  add("--hbm", metavar="SIZE", help="memory of each: 16GiB, 80GB, 16e9")
  add(
    "--topology",
    metavar="KIND:SHAPE",
    help="TPUs, e.g. v5e:4x8: asks their compiler; needs prompt-tuning[tpu]",
  )
  add("--whole", action="store_true", help="compile all layers instead of a few")
  add("--json", action="store_true", help="print JSON")
  given = flags.parsed(parser, arguments)
  if not given.dry_run:
    _check(given)
  runs.quiet()
  settings, text = config.load(
    "train.train",
    given.gin_file,
    given.gin_bindings,
    runs.paths(given.gin_search_paths),
    OTHERWISE,
  )
  if given.dry_run:
    print(runs.description(settings, text))
    return 0
  from prompt_tuning import plan, plan_devices, plan_report

  count, compiler = given.devices, None
  devices = plan_devices.virtual(1 if given.topology else count)
  if given.topology:
    devices = plan_devices.tpus(given.topology)
    compiler = f"the TPU compiler for {given.topology}"
    if count not in (None, len(devices)):
      raise checks.InputError(
        f"--devices is {count} and --topology {given.topology} has {len(devices)}, "
        "expected the same; leave one out"
      )
  hbm = _hbm(given)
  target = plan.Devices(devices=devices, hbm=hbm, compiler=compiler, whole=given.whole)
  found = plan.plan(settings, target)
  if given.json:
    print(json.dumps(plan_report.record(settings, target, found), indent=2))
  else:
    print(plan_report.report(settings, target, found))
  return 0 if found.given.fits else 1


def _check(given: argparse.Namespace) -> None:
  """Raises `InputError` for wrong flags, all at once."""
  wrong = []
  if not given.gin_file:
    wrong.append("no --gin_file is given, expected a model and a run; see --help")
  if given.devices is None and given.topology is None:
    wrong.append("--devices and --topology are missing, expected one; give --devices N")
  if given.devices is not None and given.devices < 1:
    wrong.append(f"--devices is {given.devices}, expected a number from 1; correct it")
  try:
    _hbm(given)
  except checks.InputError as error:
    wrong.append(str(error))
  if given.whole and given.topology is None:
    wrong.append("--whole compiles, which needs --topology; give it, or leave --whole out")
  if wrong:
    raise checks.InputError("\n".join(wrong))


def _hbm(given: argparse.Namespace) -> int:
  from prompt_tuning.plan_devices import size

  kind = (given.topology or "").partition(":")[0]
  if given.hbm is None and kind not in _HBM:
    raise checks.InputError(
      "--hbm is missing, expected the memory of a device; give e.g. --hbm 16GiB"
    )
  return size("--hbm", given.hbm or f"{_HBM[kind]}GiB")
