# `make train` and `make test` do everything from a fresh clone; on Debian and Ubuntu they install a Vulkan driver where none is found.
RUN ?= data/runs/integer_sequences_d64.toml
MUTANTS ?= 400 1
KILLS ?= 1000 1
# Files of the kernel families, which formatting alone does not find: they are declared by a list.
FAMILIES = src/kernels/*.rs kernels-tests/reference/*.rs kernels-tests/cases/*.rs
ARGS ?= --set train.epochs=4 --set data.transition_epochs=1 --set schedule.warmup_steps=500

ROUNDS ?= 5
PEERS ?= pytorch fused compiled burn
LIMIT ?= 1.10

# Building cargo-deny takes three minutes on two cores, so `make test` does not install it.
DENY_VERSION = 0.20.2
CHECKS ?= bans licenses sources
DENY = cargo deny check $(CHECKS)

# Tests with several processes are built where an MPI library and libclang, which reads its headers, are found: `make mpi` installs them.
LIBCLANG := $(wildcard /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/x86_64-linux-gnu/libclang*.so* /usr/lib64/libclang*.so* /opt/homebrew/opt/llvm/lib/libclang*)
FEATURES := isa$(if $(and $(shell command -v mpicc),$(LIBCLANG)),$(shell printf ,)mpi,)

# What `engine tune` measured for the user's runs is not what is tested and compared; and a layer of Mesa's that sorts adapters is not needed.
test test-all test-drivers mutants torture bench bench-peers bench-compare: export ENGINE_CACHE = $(CURDIR)/target/untuned
test test-all test-drivers mutants torture: export NODEVICE_SELECT = 1

.PHONY: format train test deny test-all test-drivers test-dxc test-tint test-windows test-web test-web-part web mutants torture bench bench-peers bench-compare driver mpi onnx browser

train: driver
	cargo run --release -- train $(RUN) $(ARGS) --out runs/first --resume

format:
	cargo fmt
	rustfmt $(FAMILIES)

# What is quick to say comes first. All of it is one build without optimisation across the crate, which would take longer than the tests gain by it.
test: driver
	cargo fmt --check
	rustfmt --check $(FAMILIES)
	cargo clippy --all-targets --features $(FEATURES) -- -D warnings
	cargo clippy --no-default-features --lib -- -D warnings
	@if command -v cargo-deny >/dev/null; then $(DENY); else echo "left out: licences and sources of the dependencies, which \`make deny\` checks after it has installed cargo-deny"; fi
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --lib --features $(FEATURES)
	@test "$$(cargo tree --offline -e normal,build --prefix none | grep -c '^mpi')" = 0 || { echo "the default features link MPI"; exit 1; }
	cargo test --features $(FEATURES) --lib --tests
	cargo test --features $(FEATURES) --doc

# Licences and sources of the dependencies, as deny.toml allows them; CHECKS=all also asks the network for known holes.
deny:
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny --version $(DENY_VERSION)
	$(DENY)

# Before a release: everything that `make test` draws from or leaves out, on this driver and on the others.
test-all: export ENGINE_TESTS = all
test-all: test test-drivers
	@if test -n "$(SWIFTSHADER)"; then $(MAKE) test-web; else echo "left out: the pages in a browser, as Chromium is not here (make browser)"; fi

# What runs apt-get with the rights that it takes.
AS_ROOT = if [ "$$(id -u)" = 0 ]; then SUDO=; elif command -v sudo >/dev/null; then SUDO=sudo; \
  else echo "this installs packages: run it once as root, as there is no sudo here"; exit 1; fi

# Installs packages of Debian, or says what is to be installed.
installed = if command -v apt-get >/dev/null; then \
	    $(AS_ROOT) && $$SUDO apt-get update -qq && $$SUDO apt-get install -y -qq --no-install-recommends $(1); \
	  else echo "install $(2) by your system's packages"; exit 1; fi

# Open MPI and libclang, for `cargo build --release --features mpi` and for the tests with several processes.
mpi:
	@command -v mpirun >/dev/null && command -v mpicc >/dev/null && test -n "$(LIBCLANG)" || \
	  { $(call installed,openmpi-bin libopenmpi-dev libclang-dev,an MPI library with its headers and libclang); }

# A Python with ONNX and its runtime, which run exported models in the tests.
onnx:
	@test -x target/python/bin/python || python3 -m venv target/python 2>/dev/null || \
	  { $(call installed,python3-venv,Python with its module venv) && python3 -m venv --clear target/python; }
	@target/python/bin/python -c "import numpy, onnx, onnxruntime" 2>/dev/null || target/python/bin/pip install -q numpy onnx onnxruntime

# Chromium, in which the pages for browsers are tested.
browser:
	@test -n "$(SWIFTSHADER)" || \
	  { $(call installed,chromium,Chromium); }

# On a second driver, SwiftShader, every case of the kernels that have changed since they passed, and a twentieth of the others.
test-drivers: driver
	FEATURES=$(FEATURES) kernels-tests/drivers.sh

# What compilers that no test runs say of the kernels of the shipped runs: Microsoft's DXC, which is downloaded, and Tint, which Chromium has.
test-dxc test-tint: test-%:
	cargo test --features $(FEATURES) --test kernels-tests -- write-kernels
	python3 kernels-tests/$*.py

# Pages for browsers in target/web: a run that trains, three trained models that answer, and the check of a card. The curriculum and the schedule
# of a run end with its steps.
SEQUENCES = data/runs/integer_sequences_d64.toml
SHORT = --steps 1800 --set train.epochs=2 --set train.steps_per_epoch=900 --set schedule.warmup_steps=100 --set data.transition_epochs=0
LONGER = --set train.epochs=12 --set data.transition_epochs=2
LINKAGES = --set data.file=target/web-runs/linkages.npz --set model.latents=8 --set train.epochs=30 --set 'model.layers={kind="dense",hidden=128}'
MECHANISMS = --set data.file=target/web-runs/mechanisms.npz --set model.d_model=64 --set model.feed_forward=256 --set train.epochs=40
ENGINE = target/release/engine
web: driver
	rm -rf target/web target/web-runs
	cargo build --release
	mkdir -p target/web target/web-runs
	cp examples/web/index.html target/web/
	$(ENGINE) export $(SEQUENCES) --web target/web/train $(SHORT)
	$(ENGINE) card --web target/web/card
	$(ENGINE) train $(SEQUENCES) $(LONGER) --out target/web-runs/numbers
	$(ENGINE) export target/web-runs/numbers --web target/web/numbers --predict
	$(ENGINE) data linkages --count 2000 --out target/web-runs/linkages.npz
	$(ENGINE) train data/runs/linkage_vae.toml $(LINKAGES) --out target/web-runs/linkage
	$(ENGINE) export target/web-runs/linkage --web target/web/linkage --predict
	$(ENGINE) encode target/web-runs/linkage --data target/web-runs/linkages.npz --out target/web-runs/mechanisms.npz
	$(ENGINE) train data/runs/mechanism_small.toml $(MECHANISMS) --out target/web-runs/mechanism
	$(ENGINE) export target/web-runs/mechanism --web target/web/mechanism --predict --autoencoder target/web-runs/linkage

# What a compiler for Windows says of the library, the program and the tests, on any system with rustup.
WINDOWS = x86_64-pc-windows-gnu
test-windows:
	rustup target add $(WINDOWS)
	cargo clippy --all-targets --features isa --target $(WINDOWS) -- -D warnings

# The pages in Chromium: fifty steps and predictions against the same plans on the Vulkan driver that Chromium brings, and the page of a card.
# The part has four steps of a smaller run, what is said where something is wrong, and two families of the card, one of them with a broken kernel:
# compiling takes Chromium's software adapter most of the time.
SWIFTSHADER = $(firstword $(wildcard /usr/lib/chromium/vk_swiftshader_icd.json /usr/lib/chromium-browser/vk_swiftshader_icd.json /opt/google/chrome/vk_swiftshader_icd.json))
test-web test-web-part:
	@test -n "$(SWIFTSHADER)" || { echo "$@: Chromium is not here: make browser"; exit 1; }
	VK_DRIVER_FILES=$(SWIFTSHADER) ENGINE_DEVICE=swiftshader cargo test --features $(FEATURES) --test kernels-tests -- $(patsubst test-%,write-%,$@)
	python3 kernels-tests/web.py $(if $(findstring part,$@),--part)

# Changes the shaders at random; each change must fail a case of its family.
mutants: driver
	cargo test --test mutants -- $(MUTANTS)

# Kills runs of every kind at random moments; each must end with the bits of one that was left alone.
torture: driver
	cargo test --test torture -- $(KILLS)

bench: driver
	cargo bench

# A training step beside PyTorch and burn, into benches/results/; `make bench-peers RUNS="lvm_mlp lvm_transformer" PEERS=pytorch`.
bench-peers: driver
	cargo build --release
	python3 benches/peers.py $(RUNS) --rounds $(ROUNDS) --peers $(PEERS)

# Fails where a training step is slower than that of an earlier revision; `make bench-compare BASE=HEAD~1 RUNS="lvm_mlp"`.
bench-compare: driver
	@test -n "$(BASE)" || { echo "BASE=REVISION says what to compare with"; exit 2; }
	cargo build --release
	python3 benches/compare.py $(BASE) $(RUNS) --rounds $(ROUNDS) --limit $(LIMIT)

# Any Vulkan driver will do; without one, Debian's brings drivers for AMD and Intel and a software adapter.
driver:
	@ls /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json 2>/dev/null | grep -q . || test "$$(uname)" != Linux || ! command -v apt-get >/dev/null || \
	  { echo "installing a Vulkan driver (mesa-vulkan-drivers)"; \
	    $(AS_ROOT) && $$SUDO apt-get update -qq && $$SUDO apt-get install -y -qq mesa-vulkan-drivers libvulkan1; }
