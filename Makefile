# make install      create .venv
# make demo         create a small cohort with known lesions, run the whole pipeline on it, print the path of the report: wsi-mil demo
# make view         show the demo's slides, heatmaps and cohort in a browser
# make test         run the tests
# make test-system  run the tests that need more: slides on servers, a cluster, a wheel, the guides of docs/
# make docs         build the documentation as a site in site/, and run its tutorials (five minutes of CPU)
# make lint         run ruff, mypy, snakefmt, snakemake --lint
# make fuzz         tile and read a real slide damaged in 250 ways; read 500 sheets as written by people and programs
# make faults       kill every stage, Snakemake and a cluster node, fill disks, damage files; takes an hour
# make audit        check the pinned versions for known vulnerabilities; needs PyPI
# make bench        run the benchmarks; each prints a table and a line of JSON
# make gpu          run what needs a GPU: tests, extraction, training steps; at most 12 minutes, nothing without a GPU
# make scale        plan a cohort of a thousand slides, compared with a bare Snakemake DAG; measure the overhead of a job
# make papers       run the papers' experiments that are not done yet, write docs/papers.md; DATA=folder, FAST=1, JOBS=2, ONLY=mnist_bags
# make screenshots  renew the images of viewer and report in docs/ from the demo; needs Chromium
# make schema       renew the JSON schema, the tables in docs/ and the lists in config.yaml after a change of settings or records
# make unlock       unlock the folder after snakemake was killed
# make clean        delete the demo, its results and logs, and the site
# Every target creates .venv if it is missing; PYTHON=... chooses the interpreter.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
CORES ?= all
BENCHMARKS := demo read annotations remote extract bag_read train explain cohort_statistics mean_linear view  # the other benchmarks need existing results
TESTED := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 pytest -n 2 --dist worksteal
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: install demo view screenshots test test-system docs lint fuzz faults audit bench gpu scale papers unlock clean schema constraints
.DELETE_ON_ERROR:

install: $(READY)
	@echo "next: source $(VENV)/bin/activate"

demo: $(READY)
	wsi-mil demo . --cores $(CORES)

demo/cohort.csv: | $(READY)
	wsi-mil demo-cohort demo

view: $(READY)
	@test -d results || { echo "there are no results yet: make demo"; exit 1; }
	wsi-mil view results

screenshots: $(READY)
	@test -d results || { echo "there are no results yet: make demo"; exit 1; }
	python docs/screenshots.py results docs

test: $(READY)
	$(TESTED) -m "not faults and not system"

test-system: $(READY)
	$(TESTED) -m "system and not faults"

docs: $(READY)
	OMP_NUM_THREADS=1 NO_MKDOCS_2_WARNING=1 mkdocs build --strict
	@echo "site: $(CURDIR)/site/index.html"

lint: $(READY) demo/cohort.csv
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

fuzz: $(READY)
	python -m tests.fuzz_sheets
	python -c 'from tests.fuzz import main; main()'

faults: $(READY)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 pytest -n 2 -m faults tests/faults
	python -c 'from tests.faults.extraction import main; main()'
	python -m tests.faults.dag
	python -c 'from tests.cluster.node_death import main; main()'

audit: $(READY)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	pip-audit --requirement envs/constraints.txt --no-deps --disable-pip

bench: $(READY)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c envs/constraints.txt -e '.[bench]'
	for name in $(BENCHMARKS); do python benchmarks/$$name.py || exit 1; done

gpu: $(READY)
	python benchmarks/gpu.py

scale: $(READY)
	python benchmarks/scale.py
	python benchmarks/jobs.py --slurm

papers: $(READY)
	@test -d "$(DATA)" || { echo "DATA must be a folder with mnist/, colon/, lung/ or breast/: make papers DATA=../shared/data"; exit 1; }
	python -m benchmarks.papers --data "$(DATA)" $(if $(FAST),--fast) $(if $(JOBS),--jobs $(JOBS)) $(if $(ONLY),--only $(ONLY))
	python -m benchmarks.papers.tables

unlock: $(READY)
	snakemake --unlock

clean:
	rm -rf demo results logs site .snakemake

schema: $(READY)
	wsi-mil schema > workflow/schemas/config.schema.json
	python -m tests.docs.tables

constraints: $(READY)
	pip freeze --all --exclude pip --exclude-editable | sed '1i # Exact versions that `make` installs and that were tested. Written by `make constraints`.' > envs/constraints.txt

$(READY): pyproject.toml envs/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "set-up: Python 3.11 or newer is missing ($(PYTHON) is not); try make PYTHON=python3.12"; exit 1; }
	@echo "set-up, once: creating $(VENV) with $$($(PYTHON) --version) and installing the versions in envs/constraints.txt (about 5 GB with CUDA libraries)"
	@$(PYTHON) -m venv $(VENV) || { echo "set-up: Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c envs/constraints.txt -e '.[dev]' || \
	  { echo "set-up: installation failed, see pip's message above; is a Python package index reachable?"; exit 1; }
	@touch $@
	@echo "set-up: done"
