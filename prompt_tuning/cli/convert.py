"""`prompt-tuning convert`: a checkpoint or prompt in another format."""

from collections.abc import Sequence

from prompt_tuning.cli import flags


def main(command: str, arguments: Sequence[str]) -> int:
  """Converts and prints the path that was written."""
  parser = flags.Parser(
    prog=f"prompt-tuning {command}",
    description="Writes a checkpoint or prompt in another format. The source's format is "
    "detected: T5X, Orbax, Hugging Face or Mesh TensorFlow; a prompt in safetensors, "
    "numpy, numpy_checkpoints, a PEFT adapter or a checkpoint.",
    epilog="a line that works as pasted:\n  prompt-tuning convert "
    "package://assets/t5_1_1_reviews runs/reviews_hf --to hf",
  )
  add = parser.add_argument
  add("source", help="checkpoint or prompt, local, gs:// or package://")
  add("target", help="a new folder or file; nothing is overwritten")
  add("--to", required=True, metavar="t5x|hf|peft|npy|safetensors", help="target's format")
  add(
    "--base",
    metavar="CHECKPOINT",
    help="the model of a prompt: for t5x the checkpoint to put the prompt into, for peft "
    "the name or folder of the Hugging Face model",
  )
  add(
    "--dtype",
    metavar="float32|bfloat16|float16",
    help="stored dtype (default: as it is; float32 for prompts)",
  )
  add("--step", type=int, help="training step of a T5X checkpoint (default: as it is)")
  given = parser.parse_args(arguments)
  from prompt_tuning import convert

  options = convert.Options(base=given.base, dtype=given.dtype, step=given.step)
  print(convert.convert(given.source, given.target, given.to, options))
  return 0
