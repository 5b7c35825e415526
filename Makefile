# make demo    the whole pipeline on a small synthetic grid, on CPU, offline
# make test    the tests: ten minutes on two cores, and nothing but Python is needed
# make help    all targets
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
OLDEST := .venv-oldest
CONCERNS_SNAKEMAKE := tests/test_versions.py $(addprefix tests/workflow/test_, rule_inputs.py slurm_patches.py interruption.py snakemake_patches.py experiment_file.py terminal.py)
TESTS ?= not cluster and not browser and not shared and not long and not full
WORKERS ?= logical
# Each file's tests go to one worker, the slowest files first (tests/conftest.py).
PARALLEL = $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist loadscope --no-loadscope-reorder
DEMO := $(BIN)/snakemake --profile profiles/local --configfile demo/config.yaml --cores 2 --resources gpu=2

# A target takes the variables that its line of `make help` names, and PYTHON. Make would ignore any other variable on
# the command line (a misspelt one, or another target's), so it is refused, unless a make that calls this one has it.
# Values are taken literally, without make's $.
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
GOALS := $(or $(MAKECMDGOALS),help)
ifneq ($(filter-out PYTHON,$(GIVEN)),)
  TAKES := $(shell awk '/^[a-z-]+: / {for (target = $$1; match($$0, /[A-Z]+=/); $$0 = substr($$0, RSTART + RLENGTH)) \
    print target substr($$0, RSTART, RLENGTH - 1)}' $(firstword $(MAKEFILE_LIST)))
  TAKEN := $(foreach goal,$(GOALS),$(patsubst $(goal):%,%,$(filter $(goal):%,$(TAKES))))
  REFUSED := $(addsuffix =,$(filter-out PYTHON $(TAKEN),$(GIVEN)))
  ifneq ($(and $(REFUSED),$(filter 0,$(MAKELEVEL))),)
    $(error make $(GOALS): does not know $(REFUSED); it takes $(or $(strip $(TAKEN:%=%=)),no variables); see make help)
  endif
  $(foreach name,$(filter-out PYTHON,$(GIVEN)),$(eval override $(name) := $$(value $(name))))
endif

# Quote a variable for a shell, behind its option. One from the environment may be meant for another program.
quoted = '$(subst ','\'',$(1))'
option = $(if $(filter $(1),$(GIVEN)),$(2)$(call quoted,$($(1))),$(call ignored,$(1)))
flag = $(if $(filter $(1),$(GIVEN)),$(if $($(1)),$(2)),$(call ignored,$(1)))
ignored = $(if $(filter environment%,$(origin $(1))),$(warning $(1)= of the environment is not used: make $(GOALS) $(1)=...))
WHICH = $(call option,EXPERIMENT) $(call option,CONFIG,--configfile=)

# Settings that a caller has made for Python programs of its own would break all that is called here.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONSAFEPATH PYTHONINSPECT PYTHONWARNINGS PYTHONIOENCODING

# Show pip's progress without paths and registries: the names of packages, on a terminal each in place of the last.
define PROGRESS
-v terminal="$$([ -t 1 ] && echo 1)" '/^(Collecting|Processing|Requirement already satisfied:) / { \
    sub(/^Requirement already satisfied:/, "Has"); sub(/^Processing .*\//, "Has "); n++; split($$2, name, /==|-[0-9]/); \
    if (terminal) printf "\r\033[K  %d: %s", n, name[1]; else if (n % 20 == 0) print "  " n " packages"; fflush() } \
  /^Installing collected packages/ { print (terminal ? "\r\033[K" : "") "  unpacking ..."; fflush() }'
endef

# pip installs the build of torch that it is offered: usually the one with CUDA, or the CPU build if that is at hand.
$(INSTALLED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "gluegrid needs Python 3.11 or later; call: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@command -v which > /dev/null || { echo "Snakemake's SLURM plugin needs the program 'which'; install it"; exit 1; }
	@echo "Installing $$(grep -c == requirements.lock) packages into .venv (a few minutes, once) ..."
	@$(PYTHON) -m venv .venv
	@set -o pipefail; $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --requirement requirements.lock \
	  2> >(grep -v "^WARNING: Location" >&2) | awk $(PROGRESS)
	@touch $(INSTALLED)
	@echo "Installed. Next: make demo"

##@ Start

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^##@ / {printf "%s%s\n", sep, substr($$0, 5); sep = "\n"} \
	  /^[a-z-]+:.*## / {split($$2, part, " [|] "); printf "  make %-13s %s\n", $$1, part[1]; \
	    if (part[2]) printf "%8s%s\n", "", part[2]}' $(MAKEFILE_LIST)

.PHONY: install
install: $(INSTALLED) ## create .venv with the versions of requirements.lock

.PHONY: demo
demo: $(INSTALLED) ## train 2 tiny models on 9 synthetic tasks, on the CPU
	@$(BIN)/python demo/generate.py
	@$(DEMO)
	@echo && echo "Next: make status, make verify, or an experiment of your own (README.md)"

.PHONY: doctor
doctor: $(INSTALLED) ## check this machine and SLURM; propose a profile | PROFILE=profiles/mine
	@$(BIN)/python scripts/commands.py doctor $(call option,PROFILE,--profile=)

##@ Run

.PHONY: plan
plan: $(INSTALLED) ## show what would run, why, and what it costs | CONFIG=mine.yaml EXPERIMENT=demo GPUS=8 DEVICE=A100 PROFILE=mine ALL=1
	@$(BIN)/python scripts/commands.py plan $(call option,CONFIG,--configfile=) $(call option,EXPERIMENT,--experiment=) \
	  $(call option,GPUS,--gpus=) $(call option,DEVICE,--device=) $(call option,PROFILE,--profile=) $(call flag,ALL,--all)

.PHONY: submit
submit: $(INSTALLED) ## run an experiment on SLURM, its controller as a job | CONFIG=mine.yaml PROFILE=mine
	@$(BIN)/python scripts/commands.py submit $(call option,CONFIG,--configfile=) $(call option,PROFILE,--profile=)

.PHONY: cancel
cancel: $(INSTALLED) ## cancel what make submit has started, or one cell for good | EXPERIMENT=demo CONFIG=mine.yaml CELL=<model>/<task>/base/seed-42
	@$(BIN)/python scripts/commands.py cancel $(call option,CELL) $(call option,EXPERIMENT,--experiment=) $(call option,CONFIG,--configfile=)

##@ Look

# EXPERIMENT names an experiment below results/; CONFIG names an experiment file, and by it its experiment.
.PHONY: status
status: $(INSTALLED) ## show where each cell is | EXPERIMENT=demo or CONFIG=mine.yaml; WATCH=1: live
	@$(BIN)/python scripts/commands.py status $(WHICH) $(call flag,WATCH,--watch)

.PHONY: tasks
tasks: $(INSTALLED) ## list known tasks with columns, labels and metrics | CONFIG=mine.yaml: its own, too
	@$(BIN)/python scripts/commands.py tasks $(call option,CONFIG,--configfile=)

.PHONY: models
models: $(INSTALLED) ## list the models of an experiment, and those staged here | CONFIG=mine.yaml
	@$(BIN)/python scripts/commands.py models $(call option,CONFIG,--configfile=)

##@ Results

.PHONY: verify
verify: $(INSTALLED) ## recompute every number and hash of the results | EXPERIMENT=demo or CONFIG=mine.yaml
	@$(BIN)/python scripts/commands.py verify $(WHICH)

.PHONY: reports
reports: $(INSTALLED) ## rewrite tables, parity, comparisons and the report | EXPERIMENT=merged or CONFIG=mine.yaml
	@$(BIN)/python scripts/commands.py reports $(WHICH)

.PHONY: export
export: $(INSTALLED) ## write an experiment into one file, without weights | EXPERIMENT=demo CONFIG=mine.yaml FILE=demo.zip FORMAT=every_eval_ever
	@$(BIN)/python scripts/commands.py export $(WHICH) $(call option,FILE,--file=) $(call option,FORMAT,--format=)

.PHONY: import
import: $(INSTALLED) ## merge exported files into one experiment | EXPERIMENT=merged FILES="a.zip b.zip" or "label=a.zip"
	@$(BIN)/python scripts/commands.py import $(call option,EXPERIMENT) \
	  $(foreach file,$(foreach word,$(FILES),$(or $(wildcard $(word)),$(word))),$(call quoted,$(file)))

##@ Keep house

.PHONY: disk
disk: $(INSTALLED) ## show disk usage by experiment, model and dataset | EXPERIMENT=demo or CONFIG=mine.yaml
	@$(BIN)/python scripts/commands.py disk $(WHICH)

.PHONY: clean-state
clean-state: $(INSTALLED) ## list files that are safe to delete | EXPERIMENT=demo or CONFIG=mine.yaml; YES=1: delete them
	@$(BIN)/python scripts/commands.py clean-state $(WHICH) $(if $(filter 1,$(YES)),$(call flag,YES,--yes))

##@ Develop

.PHONY: test
test: $(INSTALLED) ## run the tests that need nothing but Python | WORKERS=4: on 4 cores; TESTS="not full": nearly all
	$(PARALLEL) -m "$(TESTS)"

.PHONY: test-long
test-long: $(INSTALLED) ## run the long tests (some need Chromium or ../shared) | WORKERS=4
	$(PARALLEL) -m "(browser or shared or long) and not cluster and not full"

.PHONY: test-cluster
test-cluster: $(INSTALLED) ## run the tests that start a real SLURM (Debian, root)
	$(BIN)/python -m pytest -m "cluster and not full" tests/cluster

.PHONY: test-full
test-full: $(INSTALLED) ## run the tests that take hours; keep their tables in docs/
	GLUEGRID_KEEP_REAL_RUNS=docs/real_runs.md GLUEGRID_KEEP_REAL_SEEDS=docs/real_seeds.md \
	  GLUEGRID_KEEP_RANDOM_KILLS=docs/random_kills.md $(BIN)/python -m pytest -m full

# Put its packages in front of .venv's, so that only what is older than the lock's is fetched.
.PHONY: test-oldest
test-oldest: $(INSTALLED) ## run the Snakemake tests with the oldest versions
	@rm -rf $(OLDEST) results/oldest && $(BIN)/python -m venv $(OLDEST)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$($(OLDEST)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/newest.pth"
	@$(BIN)/python scripts/write_lock.py --oldest > $(OLDEST)/requirements.txt
	@$(OLDEST)/bin/python -m pip install --quiet --quiet --disable-pip-version-check \
	  --requirement $(OLDEST)/requirements.txt
	$(OLDEST)/bin/python -m pytest -m "not full" $(CONCERNS_SNAKEMAKE)
	@$(BIN)/python demo/generate.py
	$(OLDEST)/bin/python -m snakemake --profile profiles/local --configfile demo/config.yaml --cores 2 --quiet \
	  --config experiment=oldest -- results/oldest/runs/bert-demo-tiny/wnli/base/seed-42/all_results.json
	@rm -rf $(OLDEST) results/oldest

.PHONY: lint
lint: $(INSTALLED) ## check style: ruff, snakefmt, snakemake --lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check .
	$(BIN)/snakemake --lint

.PHONY: format
format: $(INSTALLED) ## format the code
	$(BIN)/ruff format .
	$(BIN)/snakefmt .

.PHONY: gpu-check
gpu-check: $(INSTALLED) ## measure this node's GPU, in 8 minutes at most | ONLY="7 8" DATA= TOKENIZER= OUT=; PRETEND=1: on a CPU
	@$(BIN)/python benchmarks/gpu_check.py $(if $(filter 1,$(PRETEND)),--pretend) $(if $(ONLY),--only $(ONLY)) \
	  $(if $(DATA),--data "$(DATA)") $(if $(TOKENIZER),--tokenizer "$(TOKENIZER)") $(if $(OUT),--out "$(OUT)")

.PHONY: gpu-bundle
gpu-bundle: $(INSTALLED) ## collect what gpu-check needs without a network | FOR=3.12: its Python; DATA= TOKENIZER= OUT=
	@$(BIN)/python benchmarks/gpu_bundle.py $(if $(FOR),--python "$(FOR)") \
	  $(if $(DATA),--data "$(DATA)") $(if $(TOKENIZER),--tokenizer "$(TOKENIZER)") $(if $(OUT),--out "$(OUT)")

.PHONY: slurm-up
slurm-up: ## start a SLURM of 4 nodes x 2 simulated GPUs (Debian, root)
	@$(PYTHON) tests/cluster/cluster.py up

.PHONY: slurm-down
slurm-down: ## stop it and remove what it left
	@$(PYTHON) tests/cluster/cluster.py down

##@ Maintain

.PHONY: lock
lock: pyproject.toml ## resolve the newest versions into requirements.lock
	@rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	@.venv-lock/bin/python scripts/write_lock.py --requirements > .venv-lock/requirements.txt
	@.venv-lock/bin/python -m pip install --quiet --requirement .venv-lock/requirements.txt
	@.venv-lock/bin/python scripts/write_lock.py
	@rm -rf .venv-lock

# Without --quiet, which would keep --strict from counting warnings.
.PHONY: docs
docs: $(INSTALLED) ## build the documentation: site/index.html
	@$(BIN)/python scripts/write_docs.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open site/index.html in a browser"

.PHONY: rulegraph
rulegraph: $(INSTALLED) ## draw docs/rulegraph.svg (needs graphviz)
	@sed 's/^  # ax:.*/  ax:/' config.yaml > .venv/with_ax.yaml
	$(BIN)/snakemake --rulegraph --configfile .venv/with_ax.yaml -- all stage compare parity report submission 2>/dev/null \
	  | sed 's/write_runs_1/write_runs/' | dot -Tsvg > docs/rulegraph.svg

.PHONY: pictures
pictures: $(INSTALLED) ## draw the README's pictures from a demo (needs Chromium)
	@$(BIN)/python docs/draw_readme.py

.PHONY: architecture
architecture: $(INSTALLED) ## draw docs/architecture.svg from the code
	@$(BIN)/python docs/draw_architecture.py
