# Two commands do everything: `make run` and `make test`. Needed: python3 (3.11 or
# later). With a C compiler the native core is built; without one the portable
# transport serves, and one line says so.
PY ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PYTEST = $(BIN)/python -m pytest -q
SECONDS_ALL ?= 60
MINUTES ?= 10
SEEDS ?= 10000

.PHONY: run test test-all build native-test sanitize lint bench fuzz fuzz-long soak farm dist clean harden coverage mutants

# on a terminal the server has a process group of its own: Ctrl-C is for it, and make ends with its exit code
run: build
	@if [ -t 0 ]; then set -m; fi; \
	$(BIN)/python -m toolips_udp run examples/dns/answers.py --udp 127.0.0.1:5300 --tcp 127.0.0.1:5300 --live

# The environment. The native core is left to `build`, which makes it in place, once; compat mode puts this
# folder on the path, so that Cython finds the .pxd files of an editable install too.
$(VENV)/made: pyproject.toml
	$(PY) -m venv $(VENV)
	TOOLIPS_UDP_PURE=1 $(BIN)/pip install --quiet --disable-pip-version-check \
		--config-settings editable_mode=compat -e '.[test]'
	touch $@

build: $(VENV)/made
	@$(BIN)/python setup.py --quiet build_ext --inplace

# the quick suite, then what needs the machine to itself
test: build
	$(PYTEST) -n 2 --dist loadgroup -m "not alone and not long and not peers"
	$(PYTEST) -m "alone and not long and not peers"

# everything: long tests, those beside other servers, and a piece of the simulation farm
test-all: test
	$(PYTEST) -m "long or peers"
	$(MAKE) sanitize
	$(MAKE) farm SEEDS=200

native-test:
	$(PY) native/run.py test
	$(PY) native/run.py replay

lint: build
	$(PYTEST) tests/lint

# the speed tables, each beside its peers: an hour on a quiet machine
BENCHES = echo dns dns_streams dns_overload enet tick messages tcp http_hello pages overload known loss workers jobs kill reload stop
bench: build
	for name in $(BENCHES); do $(BIN)/python bench/$$name.py || exit 1; done
	$(PYTEST) --benchmark-only bench/micro
	$(BIN)/python bench/table.py

# fuzzing needs clang: apt install clang libclang-rt-14-dev
fuzz:
	$(PY) native/run.py fuzz --seconds $(SECONDS_ALL)

# The long ones go on where they stopped and add to tests/ledger.jsonl.
fuzz-long: build
	$(PY) native/run.py fuzz --seconds $$(($(MINUTES) * 60)) --ledger
	$(BIN)/python tests/fuzz_messages.py --minutes $(MINUTES)
	$(BIN)/python tests/fuzz_range.py --minutes $(MINUTES)
soak: build
	$(BIN)/python tests/soak.py --minutes $(MINUTES)
farm: build
	$(BIN)/python tests/farm.py --seeds $(SEEDS)

# what a release consists of: sdist (the same bytes wherever it is made), wheel, SBOM, checksums
dist: build
	$(BIN)/python release.py

clean:
	rm -rf $(VENV) build dist native/tests/build native/fuzz/build bench/build
	find toolips_udp -name '*.so' -delete

# the stories of worker processes under harden=True, a call outside its list ending the process; as root
harden: build
	$(BIN)/python tests/harden.py

# the suite's native part under ASan and UBSan, in a tree of its own
sanitize: build
	$(BIN)/python tests/sanitize.py

# how much of the C core and of the package the tests run: lines and branches, about 40 minutes
coverage: build
	$(BIN)/python tests/covered.py

# how many small faults in the state machines their tests notice; goes on where it stopped, an hour when whole
mutants: build
	@$(BIN)/pip install --quiet --disable-pip-version-check 'mutmut>=3.8,<4'
	$(BIN)/python tests/mutants.py
