"""`prompt-tuning merge`: a trained method folded into the weights of its model."""

from collections.abc import Sequence

from prompt_tuning.cli import flags


def main(command: str, arguments: Sequence[str]) -> int:
  """Merges and prints the path that was written."""
  parser = flags.Parser(
    prog=f"prompt-tuning {command}",
    description="Folds what IA3 or LoRA has learned into the weights of its model and "
    "writes a T5X checkpoint: a plain T5 that answers alike and as fast as before. Other "
    "methods are no change of weights.",
    epilog="""lines that work as pasted, one after the other:
  prompt-tuning train --gin_file=experiments/movie_reviews.gin \\
    --gin_file=methods/ia3.gin --gin.MODEL_DIR="'runs/ia3'"
  prompt-tuning merge runs/ia3 runs/merged --model package://assets/t5_1_1_reviews""",
  )
  add = parser.add_argument
  add("source", help="MODEL_DIR of the method, or its method.safetensors")
  add("target", help="a new folder; nothing is overwritten")
  add(
    "--model",
    required=True,
    metavar="CHECKPOINT",
    help="the checkpoint it was trained for, of any format",
  )
  add(
    "--dtype",
    metavar="float32|bfloat16|float16",
    help="stored dtype (default: as it is; bfloat16 rounds small changes away)",
  )
  add("--step", type=int, help="training step of the checkpoint (default: as it is)")
  given = parser.parse_args(arguments)
  from prompt_tuning import convert, merging

  options = convert.Options(dtype=given.dtype, step=given.step)
  print(merging.merge(given.source, given.target, given.model, options))
  return 0
