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
LDFLAGS   += -pie -Wl,-z,relro,-z,now $(if $(SANITIZER),-fsanitize=$(SANITIZER)) $(if $(COVERAGE),--coverage)
LDLIBS    := -lzookeeper_mt -lhiredis -lev -lnanomsg -ljansson -lmicrohttpd -lcurl -lcrypto -lpthread -lm

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
SIM       := $(if $(wildcard tests/sim/*.c),$(BUILD)/tests/sim/sim)
FUZZ      := $(patsubst tests/fuzz/%.c,$(BUILD)/tests/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
BINARIES  := $(foreach p,$(PROGRAMS),$(if $(wildcard $(main_$(p))),$(BUILD)/bin/$(p)))

.PHONY: all programs tests
all: programs                  ## build the three programs into build/bin
programs: $(BINARIES)
tests: $(UNIT) $(BENCH) $(SIM)

define archive_rule
$(call archive,$(1)): $(call objects,$(call sources,$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	ar rcs $$@ $$^
endef
$(foreach f,$(FOLDERS),$(eval $(call archive_rule,$(f))))

define program_rule
$(BUILD)/bin/$(1): $(call objects,$(main_$(1))) $(call archives,$(libs_$(1)))
	@mkdir -p $$(@D)
	$$(CC) $$(LDFLAGS) -o $$@ $$(filter %.o,$$^) -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group $$(LDLIBS)
endef
$(foreach p,$(PROGRAMS),$(eval $(call program_rule,$(p))))

ALL_ARCHIVES := $(call archives,$(FOLDERS))
$(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o $(ALL_ARCHIVES)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $< -Wl,--start-group $(ALL_ARCHIVES) -Wl,--end-group -lcmocka $(LDLIBS)
$(BUILD)/tests/bench/%: $(BUILD)/obj/tests/bench/%.o $(ALL_ARCHIVES)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $< -Wl,--start-group $(ALL_ARCHIVES) -Wl,--end-group $(LDLIBS)
$(BUILD)/tests/sim/sim: $(call objects,$(wildcard tests/sim/*.c)) $(call archives,controller/core proxy/core common/core)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group -ljansson -lm

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# Changed flags rebuild: the file changes only when its text does.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS))' | cmp -s - $@ || \
	 echo '$(subst ','\'',$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS))' > $@
.PHONY: FORCE
FORCE:

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
