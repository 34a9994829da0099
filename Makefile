# The commands for users and developers. Everything that they build is under build/.
# PRESET=dev, tsan or tidy (see CMakePresets.json) builds a variant in its own folder: make test PRESET=dev

PRESET ?= release
JOBS ?= $(shell nproc)
TEST_ARGS ?=
PYTHON ?= python3
PREFIX ?= /usr/local
DESTDIR ?=

folder = $(if $(filter release,$(PRESET)),build,build/$(PRESET))

# CMake reads the launcher from the environment when a build folder is configured for the first time.
ifneq ($(shell command -v ccache),)
export CMAKE_CXX_COMPILER_LAUNCHER ?= ccache
export CMAKE_CUDA_COMPILER_LAUNCHER ?= ccache
endif

.PHONY: build install archive test test-long mutants demo sft-demo asan tsan fuzz tidy bench bench-peers golden family-golden corpus venv peers-venv dependencies format layers \
  cuda-architectures clean distclean help

build: ## the program, at build/moe (installs what is missing)
	@tools/install_dependencies.sh build
	@tools/build.sh $(PRESET) $(folder) $(JOBS) moe

install: build ## copy the program, its documents and bash completion below PREFIX (default /usr/local); DESTDIR as usual
	@DESTDIR=$(DESTDIR) cmake --install $(folder) --prefix $(PREFIX) >$(folder)/install.log || { cat $(folder)/install.log >&2; exit 1; }
	@echo "$(DESTDIR)$(PREFIX)/bin/moe"

archive: build ## an archive that runs on another x86-64 Debian 12 without installing anything: build/moe-VERSION-x86_64.tar.gz
	@tools/make_archive.sh $(folder) build

test: ## build everything and run all tests except the long ones; TEST_ARGS are passed to ctest, e.g. TEST_ARGS="-L fast -R tokenizer"
	@tools/install_dependencies.sh build test
	@tools/make_venv.sh build/venv tools/requirements-test.txt
	@tools/build.sh $(PRESET) $(folder) $(JOBS) all
	@tools/run_tests.sh $(folder) $(JOBS) $(TEST_ARGS)

test-long: ## the tests that take minutes, with the label long
	@$(MAKE) --no-print-directory test TEST_ARGS="-L long $(TEST_ARGS)"

mutants: ## plant small faults one by one and check that a test notices each (tests/mutants; an hour); MUTANTS: arguments
	@tools/install_dependencies.sh build test
	@$(PYTHON) tools/mutants.py --jobs $(JOBS) $(MUTANTS)

demo: build ## fetch a corpus, train a tokenizer and a small model, show what it learned (runs/demo)
	@tools/install_dependencies.sh corpus
	@tools/demo.sh

sft-demo: build ## fine-tune the demo's model to a small chat model (runs/sft-demo); needs make demo
	@tools/sft_demo.sh

asan: ## every test under the address and undefined-behaviour sanitizers, in build/dev
	@$(MAKE) --no-print-directory test PRESET=dev

tsan: ## every test under the thread sanitizer, in build/tsan
	@$(MAKE) --no-print-directory test PRESET=tsan

# FUZZ_RUNS: this many executions of each target instead of a time. FUZZ_TARGETS: some of them, by name.
FUZZ_SECONDS ?= 60
FUZZ_RUNS ?= 0
FUZZ_TARGETS ?=

fuzz: ## fuzz what reads files of strangers, FUZZ_SECONDS (60) or FUZZ_RUNS for each target, with clang in build/fuzz
	@tools/install_dependencies.sh build test fuzz
	@tools/build.sh fuzz build/fuzz $(JOBS) fuzz
	@$(PYTHON) tools/fuzz.py build/fuzz --jobs $(JOBS) --seconds $(FUZZ_SECONDS) --runs $(FUZZ_RUNS) --targets "$(FUZZ_TARGETS)"

tidy: ## clang-tidy over every source, in build/tidy
	@tools/install_dependencies.sh build test tidy
	@tools/build.sh tidy build/tidy $(JOBS) all

bench: build ## time a training step and print it as JSON
	@build/moe bench --json

bench-peers: build peers-venv ## the same step in moe, then in eager PyTorch (bench/peers/README.md)
	@build/moe bench --json
	@build/peers-venv/bin/python bench/peers/torch_step.py

golden: peers-venv ## compute the reference values under tests/golden again, with PyTorch
	@build/peers-venv/bin/python tools/make_golden.py --out tests/golden

family-golden: peers-venv ## make the small checkpoints under tests/golden/families again with transformers
	@build/peers-venv/bin/python tools/make_family_golden.py --out tests/golden/families

corpus: ## the demo's corpus alone, in build/corpus
	@tools/install_dependencies.sh corpus
	@$(PYTHON) tools/make_corpus.py --out build/corpus

venv: ## the Python packages that tests compare with, in build/venv
	@tools/install_dependencies.sh test
	@tools/make_venv.sh build/venv tools/requirements-test.txt

peers-venv: ## the same with PyTorch, in build/peers-venv (for golden values and peers)
	@tools/install_dependencies.sh test
	@tools/make_venv.sh --required build/peers-venv tools/requirements-peers.txt

dependencies: ## install everything that the targets here need
	@tools/install_dependencies.sh build test corpus tidy format fuzz

format: ## clang-format over every source
	@tools/install_dependencies.sh format
	@$(PYTHON) tools/check_format.py --fix

layers: ## compare every include with docs/layers.txt
	@$(PYTHON) tools/check_layers.py

cuda-architectures: ## compile the CUDA backend for every GPU it supports (compute capability 8.0, 8.9, 9.0, 10.0)
	@tools/install_dependencies.sh build
	@cmake -G Ninja -B build/cuda-architectures -DCMAKE_BUILD_TYPE=Release \
	  -DMOE_CUDA_ARCHITECTURES='80;89;90a;100a' >build/cuda-architectures.log 2>&1 || { cat build/cuda-architectures.log >&2; exit 1; }
	@cmake --build build/cuda-architectures --parallel $(JOBS) --target moe_backend_cuda

clean: ## remove what the compiler made, keep the corpus and the Python packages
	@for f in build build/dev build/tsan build/fuzz build/tidy; do \
	  if [ -f $$f/build.ninja ]; then cmake --build $$f --target clean; fi; done

distclean: ## remove all of build/
	@rm -rf build

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' Makefile
