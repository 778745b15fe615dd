# make book    set up, run the chapters that are out of date, build the site, say where it is
# make test    set up, build the site, run all tests (unit, truth, site in a browser, notebooks)
# make help    the rest
#
# Everything lives in .venv. On Linux the usual torch brings CUDA with it (gigabytes); for the CPU build set
# PIP_EXTRA_INDEX_URL to PyTorch's CPU index, or PIP_FIND_LINKS to a folder of wheels, before `make setup`.

BIN   := .venv/bin
HTML  := _build/html
PORT  ?= 8000
BUILD := $(BIN)/jupyter-book build . -W -n --keep-going -q
# Two threads, so that numbers do not depend on how many cores a machine has.
export OMP_NUM_THREADS ?= 2

.PHONY: help setup book build serve test mutation bench clean

help:  ## what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

setup: .venv/.installed  ## make .venv and install everything; at once when nothing changed

.venv/.installed: requirements.txt pyproject.toml
	@for name in python3.13 python3.12 python3.11 python3; do \
	  if command -v $$name >/dev/null && $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$name; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo "Python 3.11 or newer is needed and none was found (tried python3.13, python3.12, python3.11, python3)." >&2; exit 1; fi; \
	if [ ! -x $(BIN)/python ]; then \
	  echo "Making .venv with $$found"; \
	  $$found -m venv .venv || { echo "$$found cannot make a virtual environment. On Debian: apt-get install python3-venv" >&2; rm -rf .venv; exit 1; }; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

book: setup  ## run stale chapters, build the site, print where it is
	$(BIN)/mini-lib chapters run --stale
	@$(MAKE) --no-print-directory build

build: setup
	$(BUILD)
	@echo "The site: $(CURDIR)/$(HTML)/index.html"

serve: setup  ## show the built site on http://localhost:8000 (PORT=… for another port)
	@test -f $(HTML)/index.html || $(MAKE) --no-print-directory book
	$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory $(HTML)

test: build  ## build the site and run all tests
	$(BIN)/python -m pytest tests chapters --nbval --nbval-current-env \
	  --nbval-sanitize-with tests/nbval.cfg --nbval-cell-timeout=900 --durations=30

mutation: setup  ## revive known silent bugs one by one, and say how many the checks catch
	$(BIN)/python -m pytest tests/mutation -q

bench: setup  ## time what each method costs
	$(BIN)/mini-lib bench

clean:  ## remove the built site
	rm -rf _build
