# make install  makes .venv and nothing else
# make demo     builds a small cohort with known lesions, runs the whole pipeline on it, says where the report is
# make view     shows the demo's slides, heatmaps and cohort in a browser
# make test     runs the tests
# make test-system  runs those that take the whole system: slides on servers, a cluster, a wheel, the guides followed
# make lint     ruff, mypy, snakefmt, snakemake --lint
# make fuzz     tiles and reads a real slide damaged in 250 ways; reads 500 sheets as people and programs write them
# make faults   kills every stage, Snakemake and a SLURM node, fills disks, damages files; takes an hour; kills a node of a cluster
# make audit    holds the pinned versions against known advisories; needs PyPI
# make bench    runs the benchmarks, a JSON line each at the end of their tables
# make scale    plans a cohort of a thousand slides beside a bare Snakemake DAG; what a job costs beyond its work
# make papers   does the papers' own experiments that are not done yet, writes docs/papers.md; DATA=folder, FAST=1, JOBS=2, ONLY=mnist_bags
# make screenshots  makes the pictures of viewer and report in docs/ anew, from the demo; needs Chromium
# make schema   after a change of settings or records: the schema for editors, the tables in docs/ and the lists in config.yaml
# make unlock   after a killed snakemake: lets the next run start
# make clean    removes the demo, its results and logs
# The first of them makes .venv; PYTHON=... picks another interpreter.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
CORES ?= all
BENCHMARKS := demo read annotations remote extract bag_read train explain cohort_statistics view  # the others compare results that are there; they say what they need
TESTED := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 pytest -n 2 --dist worksteal
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: install demo view screenshots test test-system lint fuzz faults audit bench scale papers unlock clean schema constraints
.DELETE_ON_ERROR:

install: $(READY)
	@echo "next: source $(VENV)/bin/activate"

demo: $(READY) demo/cohort.csv
	snakemake --cores $(CORES) --quiet rules
	@echo "report: $(CURDIR)/results/report/index.html"
	@tail -n 1 logs/report.log

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

scale: $(READY)
	python benchmarks/scale.py
	python benchmarks/jobs.py --slurm

papers: $(READY)
	@test -d "$(DATA)" || { echo "DATA is to be a folder with mnist/, colon/, lung/ or breast/: make papers DATA=../shared/data"; exit 1; }
	python -m benchmarks.papers --data "$(DATA)" $(if $(FAST),--fast) $(if $(JOBS),--jobs $(JOBS)) $(if $(ONLY),--only $(ONLY))
	python -m benchmarks.papers.tables

unlock: $(READY)
	snakemake --unlock

clean:
	rm -rf demo results logs .snakemake

schema: $(READY)
	wsi-mil schema > workflow/schemas/config.schema.json
	python -m tests.docs.tables

constraints: $(READY)
	pip freeze --all --exclude pip --exclude-editable | sed '1i # Exact versions that `make` installs, and that everything was tested with. Made by `make constraints`.' > envs/constraints.txt

$(READY): pyproject.toml envs/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "set-up: Python 3.11 or newer is missing ($(PYTHON) is not); try make PYTHON=python3.12"; exit 1; }
	@echo "set-up, once: making $(VENV) with $$($(PYTHON) --version) and installing what envs/constraints.txt pins (about 5 GB with CUDA libraries)"
	@$(PYTHON) -m venv $(VENV) || { echo "set-up: Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c envs/constraints.txt -e '.[dev]' || \
	  { echo "set-up: a package is missing, see pip's message above; is a Python package index reachable?"; exit 1; }
	@touch $@
	@echo "set-up: done"
