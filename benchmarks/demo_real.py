"""`make demo-real`: SmolLM2 with a hand-written instruction, with a prompt, and served.

python benchmarks/demo_real.py OUT
"""

import json
import pathlib
import re
import subprocess
import sys
import urllib.request

COMMAND = [sys.executable, "-m", "prompt_tuning"]
SENTENCES = (
  "a gripping, tidy little movie that takes its time.",
  "the jokes are old and the plot is older.",
  "nobody will leave this film without a smile.",
)


def run(*arguments: str) -> None:
  """A command; ends this one where it fails."""
  print("$ prompt-tuning", *arguments, file=sys.stderr)
  if status := subprocess.run([*COMMAND, *arguments], check=False).returncode:
    sys.exit(status)


def serve(prompt: pathlib.Path) -> None:
  """Starts a server, asks it, and stops it."""
  file = "--gin_file=experiments/movie_reviews_smollm2_predictor.gin"
  arguments = ["serve", file, "--prompt", f"movies={prompt}", "--port", "0"]
  print("$ prompt-tuning", *arguments, file=sys.stderr)
  server = subprocess.Popen(
    [*COMMAND, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
  )
  try:
    address = _address(server)
    texts = [f"Review: {sentence}\nSentiment:" for sentence in SENTENCES]
    body = json.dumps({"texts": texts, "prompt": "movies"}).encode()
    headers = {"Content-Type": "application/json"}
    asked = urllib.request.Request(f"{address}/v1/predict", body, headers)
    with urllib.request.urlopen(asked) as answer:
      found = json.load(answer)
    for sentence, one in zip(SENTENCES, found["answers"], strict=True):
      print(f"{one['text'].strip():<9} {sentence}")
  finally:
    server.terminate()
    server.wait()


def _address(server: subprocess.Popen) -> str:
  """Where it listens, as it says when it is ready."""
  assert server.stderr is not None
  for line in server.stderr:
    print(line, end="", file=sys.stderr)
    if found := re.search(r"http://[\w.:]+", line):
      return found[0]
  sys.exit("the server has ended without listening")


def main() -> None:
  """Runs all of it."""
  out = pathlib.Path(sys.argv[1])
  experiment = "--gin_file=experiments/movie_reviews_smollm2"
  run("eval", f"{experiment}_instruction.gin", f"--gin.EVAL_OUTPUT_DIR='{out}/instruction'")
  run("train", f"{experiment}.gin", f"--gin.MODEL_DIR='{out}/prompt'")
  serve(out / "prompt" / "prompt.safetensors")


if __name__ == "__main__":
  main()
