# Mr-Redis HA. `make help` lists the targets; everything is built under build/.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules

VERSION   := 0.1.0
CC        ?= gcc
ifeq ($(origin CC),default)
CC        := gcc
endif
PREFIX    ?= /usr/local
DESTDIR   ?=
# V=1 shows the commands.
Q         := $(if $(V),,@)
say        = $(if $(V),@:,@printf '  %-5s %s\n' $(1) $(2))
# SANITIZER=address|undefined|thread, or several as address,undefined; each has a build folder of its own.
SANITIZER ?=
BUILD     ?= build$(if $(SANITIZER),/$(subst $(comma),-,$(SANITIZER)))
comma     := ,

WARNINGS  := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wundef
HARDENING := -fstack-protector-strong -fstack-clash-protection -fPIE -fcf-protection \
             $(if $(SANITIZER)$(COVERAGE),,-D_FORTIFY_SOURCE=2)
OPTIMIZE  := $(if $(SANITIZER)$(COVERAGE),-O1,-O2) -g -fno-omit-frame-pointer
CPPFLAGS  += -D_GNU_SOURCE -DMR_VERSION='"$(VERSION)"' -DTHREADED -I.
CFLAGS    += -std=gnu11 $(OPTIMIZE) $(WARNINGS) $(HARDENING) $(if $(SANITIZER),-fsanitize=$(SANITIZER)) \
             $(if $(findstring undefined,$(SANITIZER)),-fno-sanitize-recover=undefined) $(if $(COVERAGE),--coverage)
LDFLAGS   += -pie -Wl,-z,relro,-z,now,--as-needed $(if $(SANITIZER),-fsanitize=$(SANITIZER)) $(if $(COVERAGE),--coverage)
LDLIBS    := -lzookeeper_mt -lhiredis -lev -luring -lnanomsg -ljansson -lmicrohttpd -lcurl -lnettle -lpthread -lm

# ---- what is built from what: one archive a folder; a program links the archives it stands on --------------
FOLDERS   := common/core common controller/core controller proxy/core proxy mrctl tests/lib
PROGRAMS  := mr-controller mr-proxy mrctl
main_mr-controller := controller/main.c
main_mr-proxy      := proxy/main.c
main_mrctl         := mrctl/main.c
libs_mr-controller := controller controller/core common common/core
libs_mr-proxy      := proxy proxy/core common common/core
libs_mrctl         := mrctl controller/core common common/core

sources   = $(filter-out %/main.c,$(wildcard $(1)/*.c))
objects   = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
archive   = $(BUILD)/lib/$(subst /,_,$(1)).a
archives  = $(foreach f,$(1),$(call archive,$(f)))

UNIT      := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/test_*.c))
BENCH     := $(patsubst tests/bench/%.c,$(BUILD)/tests/bench/%,$(wildcard tests/bench/*.c))
DIFFERENTIAL := $(BUILD)/tests/differential/differential
SIM       := $(if $(wildcard tests/sim/*.c),$(BUILD)/tests/sim/sim)
BINARIES  := $(foreach p,$(PROGRAMS),$(if $(wildcard $(main_$(p))),$(BUILD)/bin/$(p)))

.PHONY: all programs tests
all: programs                  ## build the three programs into build/bin (SANITIZER=address|undefined|thread: a build of its own)
programs: $(BINARIES)
tests: $(UNIT) $(BENCH) $(SIM) $(DIFFERENTIAL)

define archive_rule
$(call archive,$(1)): $(call objects,$(call sources,$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	$$(call say,AR,$$@)
	$$(Q)ar rcs $$@ $$^
endef
$(foreach f,$(FOLDERS),$(eval $(call archive_rule,$(f))))

define program_rule
$(BUILD)/bin/$(1): $(call objects,$(main_$(1))) $(call archives,$(libs_$(1)))
	@mkdir -p $$(@D)
	$$(call say,LINK,$$@)
	$$(Q)$$(CC) $$(LDFLAGS) -o $$@ $$(filter %.o,$$^) -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group $$(LDLIBS)
endef
$(foreach p,$(PROGRAMS),$(eval $(call program_rule,$(p))))

ALL_ARCHIVES := $(call archives,$(FOLDERS))
$(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o $(ALL_ARCHIVES)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -Wl,--start-group $(ALL_ARCHIVES) -Wl,--end-group -lcmocka $(LDLIBS)
# Without the tests' rigs, which need cmocka: the demo and the benches run where only deps-run was.
BENCH_NEEDS := $(call objects,tests/lib/writer.c tests/lib/fake_redis.c) $(call archives,common common/core)
$(BUILD)/tests/bench/%: $(BUILD)/obj/tests/bench/%.o $(BENCH_NEEDS)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -Wl,--start-group $(BENCH_NEEDS) -Wl,--end-group $(LDLIBS)
$(BUILD)/tests/sim/sim: $(call objects,$(wildcard tests/sim/*.c)) $(call archives,controller/core proxy/core common/core)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group -ljansson -lm
$(DIFFERENTIAL): $(call objects,$(wildcard tests/differential/*.c)) $(call archives,common/core)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) -lnettle

$(BUILD)/obj/%.o: %.c $(BUILD)/flags | deps-build
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# Objects that only pattern rules name are kept all the same.
.SECONDARY:

# Changed flags rebuild: the file changes only when its text does.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS))' | cmp -s - $@ || \
	 echo '$(subst ','\'',$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS))' > $@
.PHONY: FORCE
FORCE:


# ---- set-up ---------------------------------------------------------------------------------------------
.PHONY: help deps deps-build deps-run deps-bench
help:                          ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

deps:                          ## install what is missing of the Debian 12 packages (apt-get, as root or with sudo)
	@.ci/deps all
deps-build:
	@.ci/deps build
deps-run:
	@.ci/deps run
deps-bench:
	@.ci/deps bench

# A recipe that builds several things uses all the processors, unless the caller chose.
JOBS     := $(shell nproc 2>/dev/null || echo 1)
PARALLEL  = $(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(JOBS))

.PHONY: demo bench
demo: deps-run                 ## a cluster here: kill the master, see the outage and the tree (KEEP=1 leaves it running)
	@$(PARALLEL) programs $(filter %/outage_client,$(BENCH))
	@MR_BUILD=$(BUILD) KEEP=$(KEEP) deploy/demo/demo.sh

# `make bench proxy` is `make bench BENCH_ARGS=proxy`: a bench named beside the goal isn't a goal of its own.
BENCHES     := failover scale outages soak proxy strict
BENCH_NAMED := $(if $(filter bench,$(MAKECMDGOALS)),$(filter $(BENCHES),$(MAKECMDGOALS)))
.PHONY: $(BENCH_NAMED)
$(BENCH_NAMED): ;@:
bench: $(if $(filter proxy,$(BENCH_NAMED) $(BENCH_ARGS)),deps-bench,deps-run) ## measure: the outage of 20 kills, beside Sentinel's and the floor (bench outages: each kind of loss; bench proxy: the data path beside HAProxy and nutcracker; bench strict: durability strict beside async; bench scale; bench soak; BENCH_ARGS=--help)
	@$(PARALLEL) programs $(BENCH)
	@MR_BUILD=$(BUILD) /usr/bin/python3 tests/bench/run.py $(BENCH_NAMED) $(BENCH_ARGS)

# ---- gates and tests: each ends with "N passed, N failed" or speaks by its exit code -----------------------
.PHONY: check check-unit check-sim check-integration check-smoke check-pure check-options check-deploy
check: deps                    ## everything: build, gates, tests, short fuzzing, sanitizers; ends with "N passed, N failed"
	@MAKE="$(MAKE)" JOBS=$(JOBS) .ci/check

check-unit: deps               ## unit tests (cmocka)
	@$(PARALLEL) $(UNIT)
	@.ci/check-unit $(UNIT)

# Sanitized builds are slower: they see fewer seeds. SIM_FROM=100000 sees others than every day's.
SIM_SEEDS ?= $(if $(SANITIZER)$(COVERAGE),2000,100000)
SIM_FROM  ?= 0
SIM_JOBS  ?= $(shell nproc)
check-sim: deps                ## the cores in a simulated cluster: seeded faults, the leader killed between any two actions, each safety rule switched off (SIM_SEEDS=100000)
	@$(PARALLEL) $(SIM)
	@$(SIM) --seeds $(SIM_SEEDS) --from $(SIM_FROM) --jobs $(SIM_JOBS)
	@$(SIM) --crashes $(if $(SANITIZER)$(COVERAGE),--seeds 70,--seeds 700)
	@$(SIM) --ablations --jobs $(SIM_JOBS)

.PHONY: nightly
nightly:                       ## a million seeds, the ablations, every fuzz target for five minutes, Redis' own suite, 30 minutes of differential, a minute of route changes
	@$(MAKE) --no-print-directory check-sim SIM_SEEDS=1000000
	@$(MAKE) --no-print-directory fuzz
	@$(MAKE) --no-print-directory check-redis-suite
	@$(MAKE) --no-print-directory SANITIZER=address,undefined differential MINUTES=30
	@MR_CHURN_SECONDS=60 .ci/check-unit $(BUILD)/tests/unit/test_proxy_churn
nightly: $(BUILD)/tests/unit/test_proxy_churn

PYTEST    := PYTHONDONTWRITEBYTECODE=1 MR_BUILD=$(BUILD) MR_SLOWNESS=$(if $(SANITIZER)$(COVERAGE),4,1) /usr/bin/python3 -m pytest -q -p no:cacheprovider
INTEGRATION_JOBS ?= 3
check-integration: deps        ## integration tests with real processes (PYTEST_ARGS="-k kill")
	@$(PARALLEL) programs $(BENCH)
	@$(PYTEST) -n $(INTEGRATION_JOBS) $(PYTEST_ARGS) tests/integration

check-smoke: deps              ## the integration tests that the sanitized builds run too
	@$(PARALLEL) programs
	@$(PYTEST) -n 2 -m smoke $(PYTEST_ARGS) tests/integration

# ---- the proxy against what nobody here wrote ----------------------------------------------------------------
.PHONY: check-redis-suite differential check-differential
PYTHON    := PYTHONDONTWRITEBYTECODE=1 MR_BUILD=$(BUILD) MR_SLOWNESS=$(if $(SANITIZER)$(COVERAGE),4,1) /usr/bin/python3
check-redis-suite: deps        ## Redis' own test suite (from Debian's source package), direct and through a proxy (SUITE_ARGS="--quick", "unit/multi")
	@$(PARALLEL) programs
	@source=$$(tests/suite/fetch.sh build/redis-suite) && $(PYTHON) tests/suite/run.py $$source $(SUITE_ARGS)

MINUTES   ?= 5
differential: deps             ## the same random commands direct and through a proxy for MINUTES=5; with SANITIZER=address,undefined, too
	@$(PARALLEL) programs $(DIFFERENTIAL)
	@$(PYTHON) tests/differential/run.py --seconds $$(($(MINUTES) * 60)) $(DIFFERENTIAL_ARGS)

check-differential: deps       ## the same for ten seconds
	@$(PARALLEL) programs $(DIFFERENTIAL)
	@$(PYTHON) tests/differential/run.py --seconds 10

CORES     := $(filter %/core,$(FOLDERS))
.PHONY: check-model chaos chaos-strict chaos-ablations
check-model: deps              ## the rules of a failover, exhausted by spin; each rule taken away must show
	@tests/model/check.sh $(BUILD)/model

chaos: deps                    ## break a cluster on hosts of its own, 30 rounds of each kind (root; CHAOS_ARGS="--rounds 3 --only master_killed")
	@$(PARALLEL) programs
	@MR_BUILD=$(BUILD) /usr/bin/python3 tests/chaos/run.py $(CHAOS_ARGS)

chaos-strict: deps             ## 200 rounds of random faults, strict, async and on Sentinel; the judge finds what each loses (root; CHAOS_ARGS="--rounds 20 --arms strict --seed 7")
	@$(PARALLEL) programs
	@MR_BUILD=$(BUILD) /usr/bin/python3 tests/chaos/strict_chaos.py $(CHAOS_ARGS)

chaos-ablations: deps          ## rules of strict taken out of the programs, one at a time: the judge finds each (root; CHAOS_ARGS="--only marker,quorum")
	@$(PARALLEL) programs
	@MR_BUILD=$(BUILD) /usr/bin/python3 tests/chaos/ablations.py $(CHAOS_ARGS)

check-pure: deps               ## the core objects, linked alone, need only memory, string and formatting functions
	@$(PARALLEL) $(call archives,$(CORES))
	@.ci/check-pure common/core/pure_symbols.txt $(BUILD) $(CORES)

check-options: deps            ## every option of --help is in README, and the other way round
	@$(PARALLEL) programs
	@/usr/bin/python3 .ci/check-options README.md $(BINARIES)

check-deploy: deps             ## deploy/: Marathon definitions, systemd units, Dockerfiles, shell scripts
	@$(PARALLEL) programs
	@MR_BUILD=$(BUILD) PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 deploy/check.py

.PHONY: format format-check tidy
FORMATTED := $(shell find common controller proxy mrctl tests -name '*.[ch]' 2>/dev/null | sort)
format: deps                   ## format all C with clang-format 14
	@clang-format-14 -i $(FORMATTED)
format-check: deps             ## fail when clang-format 14 would change a file
	@clang-format-14 --dry-run --Werror $(FORMATTED)

# A file is looked at again when its object was made again, that is: when it or a header of it changed.
TIDIED    := $(patsubst %.c,$(BUILD)/tidy/%.ok,$(filter %.c,$(FORMATTED)))
tidy: deps                     ## clang-tidy; every warning is an error
	@$(PARALLEL) -k $(TIDIED)
$(BUILD)/tidy/%.ok: $(BUILD)/obj/%.o .clang-tidy tests/.clang-tidy
	@mkdir -p $(@D)
	$(call say,TIDY,$*.c)
	$(Q)clang-tidy-14 -quiet $*.c -- -std=gnu11 $(CPPFLAGS) 2>&1 | { grep -vE '^[0-9]+ warnings? ' || true; }
	@touch $@

# ---- fuzzing: the cores, instrumented, under libFuzzer ------------------------------------------------------
.PHONY: fuzz fuzz-short
FUZZ_CC     := clang-14
FUZZ_CFLAGS := -std=gnu11 -O1 -g -fno-omit-frame-pointer $(WARNINGS) -fno-sanitize-recover=undefined
FUZZ_SANITIZERS := address,undefined
FUZZ        := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_CORE   := $(patsubst %.c,$(BUILD)/fuzz/obj/%.o,$(foreach f,$(CORES),$(call sources,$(f))))
FUZZ_SECONDS ?= 300
$(BUILD)/fuzz/obj/%.o: %.c $(BUILD)/flags | deps
	@mkdir -p $(@D)
	$(call say,FUZZ,$<)
	$(Q)$(FUZZ_CC) $(CPPFLAGS) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link,$(FUZZ_SANITIZERS) -MMD -MP -c -o $@ $<
$(BUILD)/fuzz/%: $(BUILD)/fuzz/obj/tests/fuzz/%.o $(FUZZ_CORE)
	$(call say,LINK,$@)
	$(Q)$(FUZZ_CC) -fsanitize=fuzzer,$(FUZZ_SANITIZERS) -o $@ $^ -ljansson
fuzz: deps                     ## fuzz every target of tests/fuzz for FUZZ_SECONDS=300 each; finds are kept in build/fuzz
	@$(PARALLEL) $(FUZZ)
	@.ci/fuzz $(BUILD)/fuzz $(FUZZ_SECONDS) $(FUZZ)
fuzz-short:                    ## the same for 10 s each
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=10

.PHONY: coverage
coverage: deps                 ## line coverage of the unit, simulation and integration tests, as HTML in build/coverage
	@$(MAKE) --no-print-directory COVERAGE=1 BUILD=build/coverage check-unit check-sim check-integration
	@gcovr --root . --object-directory build/coverage --exclude tests/ --print-summary \
	    --html-details build/coverage/index.html >build/coverage/summary.txt
	@cat build/coverage/summary.txt; echo "details: build/coverage/index.html"

# ---- putting it elsewhere -----------------------------------------------------------------------------------
.PHONY: install clean
install: programs              ## install programs, systemd units and documents (PREFIX=/usr/local, DESTDIR= to stage)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/doc/mr-redis \
	    $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/lib/sysusers.d
	install -m 0755 $(BINARIES) $(DESTDIR)$(PREFIX)/bin/
	install -m 0644 README.md ARCHITECTURE.md deploy/systemd/mr-redis.env $(DESTDIR)$(PREFIX)/share/doc/mr-redis/
	for unit in mr-controller mr-proxy; do \
	    sed 's|/usr/local|$(PREFIX)|' deploy/systemd/$$unit.service \
	        >$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit.service; \
	done
	install -m 0644 deploy/systemd/mr-redis.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/mr-redis.conf

clean:                         ## remove build/
	rm -rf build

-include $(shell find $(BUILD)/obj $(BUILD)/fuzz/obj -name '*.d' 2>/dev/null)
