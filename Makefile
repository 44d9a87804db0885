# make demo | test | faults | lint | fmt | docs | bench        (each sets up .venv by itself)

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
DEMO ?= demo

.PHONY: demo test test-all faults lint fmt docs bench

demo: $(READY)
	@rm -rf $(DEMO)
	@echo "== 1/5 scenes: procedural street scenes with exact labels =="
	$(PY) -m ingest scenes $(DEMO)/raw --layout folder --train 256 --val 48 --size 144x192
	@echo "== 2/5 shards =="
	$(PY) -m ingest folder $(DEMO)/raw --spec $(DEMO)/raw/dataset.yaml --out $(DEMO)/shards
	$(PY) -m ingest show $(DEMO)/shards --split train -n 12 --out $(DEMO)/dataset.png
	@echo "== 3/5 train =="
	$(PY) -m train --cfg scenes_enet data.path=$(DEMO)/shards output=$(DEMO)/saved
	@echo "== 4/5 evaluate =="
	$(PY) -m train.evaluate --checkpoint $(DEMO)/saved/scenes_enet/*/checkpoints/best.pt --data $(DEMO)/shards \
		--split val --json $(DEMO)/val.json --sheet $(DEMO)/val.png
	@echo "== 5/5 predict =="
	$(PY) -m train.predict --checkpoint $(DEMO)/saved/scenes_enet/*/checkpoints/best.pt \
		--images $(DEMO)/raw/images/val --out $(DEMO)/predictions
	@echo
	@echo "Look at:"
	@echo "  $(DEMO)/val.png          image | label | prediction | error"
	@echo "  $(DEMO)/dataset.png      the training scenes with their labels"
	@echo "  $(DEMO)/predictions      index masks and overlays"
	@echo "  $(DEMO)/val.json         the scores above"
	@echo "  $(VENV)/bin/tensorboard --logdir $(DEMO)/saved     curves and pictures"

test: $(READY)
	$(PY) -m pytest -m "not slow"

test-all: $(READY)
	$(PY) -m pytest

# breaks everything on purpose, and writes docs/reliability.md; the short part of it is in `make test`
faults: $(READY)
	@rm -rf build/faults
	FAULTS=long OMP_NUM_THREADS=1 $(PY) -m pytest tests/faults

lint: $(READY)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

fmt: $(READY)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet
	@echo "build/site/index.html"

bench: $(READY)
	$(PY) -m bench.loader

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "segrail needs Python 3.10 or newer: make PYTHON=python3.12 ..."; exit 2; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) \
		|| { echo "python3 -m venv failed: install your system's venv package (Debian: python3-venv)"; exit 2; }
	@echo "installing into $(VENV) (torch with CUDA and DALI: several GB, once)"
	$(VENV)/bin/pip install --quiet --upgrade pip
	$(VENV)/bin/pip install --quiet -e '.[dev]'
	@touch $@
