# `make` alone says what there is. Everything runs in .venv, which is made when pyproject.toml or
# constraints.txt changed. Another interpreter: `make PYTHON=python3.12 env`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENV := $(VENV)/.complete
DEMO := outputs/demo
DUAL := outputs/demo-dual
NAVDP := outputs/demo-navdp
FOLLOWERS := outputs/demo-vln
SYSTEM1 := outputs/demo-system1
SYSTEM1_MODELS := iplanner viplanner ddppo gnm vint nomad
DEMO_ROOMS := --num-rooms 1 1 --num-objects 3 6
# What `make demo` runs, and where each writes.
WHAT := system2
system2_OUT := $(DEMO)
dual_OUT := $(DUAL)
navdp_OUT := $(NAVDP)
vln_OUT := $(FOLLOWERS)
system1_OUT := $(SYSTEM1)
OUT = $($(WHAT)_OUT)
SMOKE := outputs/smoke
LAUNCH := $(BIN)/accelerate launch --num_machines 1 --mixed_precision no --dynamo_backend no
# Tests compute little and wait for processes that they start: one thread each, one more than cores.
# A test that hangs ends its process (pyproject.toml), which is not begun anew: xdist would start
# the same test again, and again.
TEST_PROCESSES = $(shell cores=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN); echo $$((cores < 4 ? cores + 1 : 4)))
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q

# OpenMP's threads wait for each other in a loop. One that has lost its core to another program would
# keep the others spinning for as long: after so many rounds they sleep (docs/benchmarks/cpu.md).
export GOMP_SPINCOUNT ?= 1000

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env demo demo-dual demo-navdp demo-vln demo-system1 test check format smoke bench lock clean

help:  ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

env: $(ENV)  ## make the environment in .venv

$(ENV): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Installing into $(VENV): some minutes, most of them for torch ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# Trains into the folder of the target: the recipe, its file of settings, threads, more options.
define train
@if [ -e $@ ]; then rm -rf $(@D); fi  # finished with other settings: do not resume it
$(LAUNCH) --num_processes 1 --num_cpu_threads_per_process $(3) \
  recipes/train_$(1).py recipes/demo_$(2).yaml --resume_from_checkpoint auto $(4)
@touch $@
endef

demo-dual: WHAT := dual
demo-navdp: WHAT := navdp
demo-vln: WHAT := vln
demo-system1: WHAT := system1

demo:  ## make a dataset, train a small System2, evaluate it in unseen rooms: outputs/demo/report.html
demo-dual:  ## train a small dual system on that System2, evaluate it too: outputs/demo-dual/report.html
demo-navdp:  ## train a small NavDP in cluttered rooms, drive it through others: outputs/demo-navdp/report.html
demo-vln:  ## train a small Seq2Seq, CMA and RDP, compare them with System2: outputs/demo-vln/report.html
demo-system1:  ## train seven models that drive to goals, compare them in other rooms: outputs/demo-system1/report.html

# The steps that are not done yet, then what the model must have learnt. `make demo WHAT=dual` is `make demo-dual`.
demo demo-dual demo-navdp demo-vln demo-system1: $(ENV)
	$(if $(OUT),,$(error WHAT: found $(WHAT), expected system2, dual, navdp, vln or system1))
	@start=$$(date +%s); $(MAKE) $(if $(filter vln system1,$(WHAT)),-j2) --no-print-directory $(OUT)/report.html || exit $$?; \
	$(BIN)/python scripts/check_demo.py recipes/demo_$(WHAT)_learnt.yaml $(OUT) || exit $$?; \
	seconds=$$(( $$(date +%s) - start )); \
	echo "Report: $(OUT)/report.html   numbers: $(OUT)/metrics.json   time: $$((seconds / 60)) min $$((seconds % 60)) s"

# Each step leaves a file, so that an interrupted demo goes on where it was. The scripts resume too.
$(DEMO)/data/.complete: | $(ENV)
	$(BIN)/python scripts/make_dataset.py --format vln_ce --out $(DEMO)/data --seed 0 \
	  --scenes 600 --held-out-scenes 30 --episodes 6 --instructions 1 $(DEMO_ROOMS) \
	  --width 128 --height 96 --pitch 30 --look-down-pitch 30 --depth false --landmarks true \
	  --exploration 0.02 --near-fraction 0.3 --grid-resolution 0.1
	@touch $@

$(DEMO)/vlm/.complete: $(DEMO)/data/.complete | $(ENV)
	$(BIN)/python scripts/make_tiny_vlm.py --out $(DEMO)/vlm --data-root $(DEMO)/data/r2r
	@touch $@

$(DEMO)/model/.complete: recipes/demo_system2.yaml $(DEMO)/data/.complete $(DEMO)/vlm/.complete | $(ENV)
	$(call train,system2,system2,2)

$(DEMO)/report.html: $(DEMO)/model/.complete | $(ENV)
	$(BIN)/python scripts/evaluate.py --model $(DEMO)/model --out $(DEMO) --seed 0 \
	  --scenes 40 --episodes 5 $(DEMO_ROOMS) --max-steps 100 --num-parallel 20 \
	  --data-root $(DEMO)/data --datasets r2r_val_unseen_125cm_30_30 --num-samples 1000 --sample-step 1 \
	  --trainer-state $(DEMO)/model/trainer_state.json

$(DUAL)/model/.complete: recipes/demo_dual.yaml recipes/demo_dual_expert.yaml $(DEMO)/model/.complete | $(ENV)
	$(call train,dual_system,dual,2)

$(DUAL)/report.html: $(DUAL)/model/.complete | $(ENV)
	$(BIN)/python scripts/evaluate.py --model $(DUAL)/model --out $(DUAL) --seed 0 \
	  --scenes 40 --episodes 5 $(DEMO_ROOMS) --max-steps 100 --num-parallel 20 --allow-sliding true \
	  --num-trajectories 8 --num-inference-steps 5 \
	  --data-root $(DEMO)/data --datasets r2r_val_unseen_125cm_30_30 --num-samples 500 --sample-step 1 \
	  --trainer-state $(DUAL)/model/trainer_state.json

$(NAVDP)/data/.complete: | $(ENV)
	$(BIN)/python scripts/make_dataset.py --format vln_n1 --out $(NAVDP)/data --seed 0 \
	  --scenes 200 --held-out-scenes 20 --episodes 6 --density medium hard \
	  --width 128 --height 96 --pitch 30 --look-down-pitch 30 --frame-spacing 0.24 --distance 4 20 \
	  --heading-noise 30 --semantics true
	@touch $@

$(NAVDP)/model/.complete: recipes/demo_navdp.yaml recipes/demo_navdp_model.yaml $(NAVDP)/data/.complete | $(ENV)
	$(call train,navdp,navdp,1)

$(NAVDP)/report.html: $(NAVDP)/model/.complete | $(ENV)
	$(BIN)/python scripts/evaluate.py --task point-goal image-goal pixel-goal no-goal \
	  --model $(NAVDP)/model --out $(NAVDP) --seed 0 --scenes 10 --episodes 5 --density medium \
	  --num-parallel 25 --num-samples 16 --seen-clearance 0.25 --min-distance 2.5 --max-distance 8 --time-limit 60 \
	  --trainer-state $(NAVDP)/model/trainer_state.json

$(FOLLOWERS)/data/.complete: | $(ENV)
	$(BIN)/python scripts/make_dataset.py --format vln_pe --out $(FOLLOWERS)/data --seed 0 \
	  --scenes 600 --held-out-scenes 20 --episodes 6 --instructions 1 $(DEMO_ROOMS) \
	  --width 128 --height 96 --pitch 30 --look-down-pitch 30 \
	  --image_files true --exploration 0.05 --near-fraction 0.3 --grid-resolution 0.1
	@touch $@

# Two at a time, a core each. CMA learns its encoders, which Seq2Seq takes as they are.
$(FOLLOWERS)/%/.complete: recipes/demo_vln_%.yaml recipes/demo_vln_%_model.yaml $(FOLLOWERS)/data/.complete | $(ENV)
	$(call train,vln,vln_$*,1)

$(FOLLOWERS)/seq2seq/.complete: $(FOLLOWERS)/cma/.complete

# The System2 or dual system of the other demos is compared with them if there is one.
$(FOLLOWERS)/report.html: $(FOLLOWERS)/seq2seq/.complete $(FOLLOWERS)/cma/.complete $(FOLLOWERS)/rdp/.complete | $(ENV)
	@for demo in $(DUAL) $(DEMO); do \
	  if [ -e $$demo/model/.complete ]; then others="--model $$demo/model"; break; fi; done; \
	set -x; $(BIN)/python scripts/evaluate.py $$others --out $(FOLLOWERS) --seed 0 \
	  --vln_models $(FOLLOWERS)/seq2seq $(FOLLOWERS)/cma $(FOLLOWERS)/rdp \
	  --scenes 40 --episodes 5 $(DEMO_ROOMS) --max-steps 100 --num-parallel 20 --allow-sliding true \
	  --num-trajectories 8 --num-inference-steps 5 \
	  --trainer-state $(FOLLOWERS)/cma/trainer_state.json

# NavDP and the walks are those of its own demo; DD-PPO clones discrete steps in the same rooms.
$(SYSTEM1)/actions/.complete: | $(ENV)
	$(BIN)/python scripts/make_dataset.py --format vln_pe --out $(SYSTEM1)/actions --seed 0 \
	  --scenes 100 --held-out-scenes 8 --episodes 6 --instructions 1 --density medium hard \
	  --width 128 --height 96 --pitch 30 --look-down-pitch 30 --exploration 0.1 --turn-deg 10
	@touch $@

$(SYSTEM1)/iplanner/.complete: recipes/demo_planner_iplanner.yaml recipes/demo_planner_iplanner_model.yaml $(NAVDP)/data/.complete | $(ENV)
	$(call train,planner,planner_iplanner,1)

$(SYSTEM1)/viplanner/.complete: recipes/demo_planner_viplanner.yaml recipes/demo_planner_viplanner_model.yaml $(NAVDP)/data/.complete | $(ENV)
	$(call train,planner,planner_viplanner,1)

$(SYSTEM1)/ddppo/.complete: recipes/demo_cloning.yaml recipes/demo_ddppo_model.yaml $(SYSTEM1)/actions/.complete | $(ENV)
	$(call train,cloning,cloning,1,--data_root $(SYSTEM1)/actions --output_dir $(SYSTEM1)/ddppo)

$(SYSTEM1)/%/.complete: recipes/demo_image_goal_%.yaml recipes/demo_image_goal_%_model.yaml $(NAVDP)/data/.complete | $(ENV)
	$(call train,image_goal,image_goal_$*,1)

$(SYSTEM1)/report.html: $(NAVDP)/model/.complete $(SYSTEM1_MODELS:%=$(SYSTEM1)/%/.complete) | $(ENV)
	$(BIN)/python scripts/evaluate.py --task point-goal image-goal --out $(SYSTEM1) --seed 0 \
	  --models $(NAVDP)/model $(SYSTEM1_MODELS:%=$(SYSTEM1)/%) \
	  --scenes 10 --episodes 10 --density medium --num-parallel 25 --num-samples 16 --seen-clearance 0.25 \
	  --min-distance 2.5 --max-distance 8 --time-limit 60 --steps-per-plan 8

test: $(ENV)  ## run every test (ARGS="-k dialogue" for some)
	$(PYTEST) -n $(TEST_PROCESSES) --dist worksteal --max-worker-restart 0 --durations=15 $(ARGS)

check: $(ENV)  ## lint, formatting, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

format: $(ENV)  ## put the code in the house's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

smoke: $(ENV)  ## run each recipe for two steps on a tiny dataset
	rm -rf $(SMOKE)
	$(BIN)/python scripts/make_dataset.py --format vln_ce --out $(SMOKE)/data --scenes 2 --episodes 4 --seed 0 --landmarks true
	$(BIN)/python scripts/make_tiny_vlm.py --out $(SMOKE)/vlm --data-root $(SMOKE)/data
	$(LAUNCH) --num_processes 1 recipes/train_system2.py recipes/demo_system2.yaml \
	  --vlm $(SMOKE)/vlm --data_root $(SMOKE)/data --output_dir $(SMOKE)/model --max_steps 2
	$(LAUNCH) --num_processes 1 recipes/train_dual_system.py recipes/demo_dual.yaml \
	  --system2 $(SMOKE)/model --data_root $(SMOKE)/data --output_dir $(SMOKE)/dual --max_steps 2 --num_eval_samples 8
	$(BIN)/python scripts/make_dataset.py --format vln_n1 --out $(SMOKE)/vln_n1 --scenes 2 --episodes 2 --seed 0 --width 128 --height 96
	$(LAUNCH) --num_processes 1 recipes/train_navdp.py recipes/demo_navdp.yaml \
	  --data_root $(SMOKE)/vln_n1 --output_dir $(SMOKE)/navdp --max_steps 2 --num_eval_samples 8
	$(LAUNCH) --num_processes 1 recipes/train_planner.py recipes/demo_planner_iplanner.yaml \
	  --data_root $(SMOKE)/vln_n1 --output_dir $(SMOKE)/planner --cache_dir $(SMOKE)/cache --max_steps 2 --num_eval_samples 8
	for model in gnm vint nomad; do \
	  $(LAUNCH) --num_processes 1 recipes/train_image_goal.py recipes/demo_image_goal_$$model.yaml \
	    --data_root $(SMOKE)/vln_n1 --output_dir $(SMOKE)/$$model --max_steps 2 --num_eval_samples 8 || exit $$?; \
	done
	$(BIN)/python scripts/make_dataset.py --format vln_pe --out $(SMOKE)/vln_pe --scenes 2 --episodes 4 --seed 0 --width 128 --height 96
	$(LAUNCH) --num_processes 1 recipes/train_cloning.py recipes/demo_cloning.yaml \
	  --data_root $(SMOKE)/vln_pe --output_dir $(SMOKE)/clone --max_steps 2 --num_eval_samples 4
	$(LAUNCH) --num_processes 1 recipes/train_ddppo.py recipes/demo_ddppo.yaml --init_from $(SMOKE)/clone \
	  --output_dir $(SMOKE)/ddppo --scenes 2 --rollout_steps 4 --max_steps 16
	encoder=random; for model in cma seq2seq rdp; do \
	  $(LAUNCH) --num_processes 1 recipes/train_vln.py recipes/demo_vln_$$model.yaml \
	    --data_root $(SMOKE)/vln_pe --output_dir $(SMOKE)/$$model --cache_dir $(SMOKE)/cache \
	    --depth_encoder $$encoder --rgb_encoder random --max_steps 2 --num_eval_samples 4 || exit $$?; \
	  encoder=$(SMOKE)/cma; done

# Campaigns of hours are started by name: python -m benchmarks.kills, benchmarks.fuzz_data.
CAMPAIGNS := kills fuzz_data

bench: $(ENV)  ## measure speed and memory (benchmarks/)
	@for file in $$(grep -l __main__ benchmarks/*.py); do \
	  name=$$(basename $$file .py); case " $(CAMPAIGNS) " in *" $$name "*) continue;; esac; \
	  echo "== benchmarks.$$name"; $(BIN)/python -m benchmarks.$$name || exit $$?; done

lock: $(ENV)  ## write the versions installed in .venv to constraints.txt
	@{ grep '^#' constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//'; } > $(VENV)/constraints.txt
	@mv $(VENV)/constraints.txt constraints.txt && touch $(ENV)

clean:  ## remove the environment, the demos and caches; your own runs stay
	rm -rf $(VENV) $(DEMO) $(DUAL) $(NAVDP) $(FOLLOWERS) $(SYSTEM1) $(SMOKE) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
