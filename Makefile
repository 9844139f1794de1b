# libpprofagent: `make help` lists the targets.

BUILD   ?= build
PREFIX  ?= /usr/local
CC      ?= gcc
OBJCOPY ?= objcopy
# The distribution's own, whose packages the tests use.
PYTHON  ?= $(if $(wildcard /usr/bin/python3),/usr/bin/python3,python3)

DEPS := $(BUILD)/deps
SRC  := $(DEPS)/src
GEN  := $(BUILD)/gen
OBJ  := $(BUILD)/obj
LIB  := $(BUILD)/libpprofagent.so

all: $(LIB)
.PHONY: all demo test check quick bench stacks soak fuzz asan fresh pictures
.PHONY: install uninstall clean help
.DELETE_ON_ERROR:

# make V=1 shows the commands, make -s nothing.
ifeq ($(V),)
Q := @
say = @$(if $(findstring s,$(firstword -$(MAKEFLAGS))),:,printf '  %-7s %s\n' $(1) $(2))
endif

# ---- flags ---------------------------------------------------------------------------------------

DIALECT := -std=gnu11 -D_GNU_SOURCE=
# initial-exec: dynamic TLS would call malloc. exceptions: a host may throw or cancel through a
# wrapper.
PIC     := -fPIC -fvisibility=hidden -ftls-model=initial-exec -fexceptions -ffunction-sections \
  -fdata-sections
ifeq ($(shell uname -m),x86_64)
PIC     += -fcf-protection=full
endif
OPTIMIZE ?= -O2 -g
# A newer compiler's warnings are no error to who only builds; they are in .ci/run.
WERROR  ?=
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes $(WERROR)
INCLUDE := -I. -I$(GEN) -I$(SRC)/civetweb/include -I$(SRC)/gdb/libbacktrace \
  -Iscripts/libbacktrace_config -I$(SRC)
# The wrappers stand in block and mutex profiles: their files are named as in this tree, wherever it
# was built.
CFLAGS_OURS := $(DIALECT) $(OPTIMIZE) $(PIC) $(WARN) $(INCLUDE) \
  -ffile-prefix-map=$(CURDIR)=libpprofagent $(CFLAGS)
# The wrappers: gcc must not reason about malloc inside malloc; CALLER_REGISTERS (stack_capture.h)
# reads the frame pointer of functions that the exported wrappers reach by tail calls.
CFLAGS_SHIM := $(CFLAGS_OURS) -fno-omit-frame-pointer -foptimize-sibling-calls \
  -fno-stack-protector -fno-builtin-malloc \
  -fno-builtin-calloc -fno-builtin-realloc -fno-builtin-free -fno-builtin-aligned_alloc
CFLAGS_DEPS := $(DIALECT) -O2 -g -DNDEBUG $(PIC) -fno-exceptions -w

# ---- third-party code: fetched, compiled, and redirected away from the host ----------------------

# Nothing that is linked in may call the host's allocator.
TO_AGENT_MEMORY := $(foreach f,malloc calloc realloc free strdup,--redefine-sym $(f)=agent_$(f)) \
  --redefine-sym __assert_fail=agent_failed_assertion
# civetweb: see agent/http/civetweb_system.h.
TO_CIVETWEB_SYSTEM := $(foreach f,socket bind listen accept getsockname shutdown close \
  poll recv send sigaction strerror gmtime getnameinfo \
  getaddrinfo freeaddrinfo getpwnam setuid setgid setgroups connect time usleep \
  $(addprefix pthread_,create join attr_init attr_destroy attr_setdetachstate attr_setstacksize \
  mutexattr_init mutexattr_destroy mutexattr_settype \
  mutex_init mutex_destroy mutex_lock mutex_unlock \
  cond_init cond_destroy cond_wait cond_signal cond_broadcast \
  key_create key_delete getspecific setspecific),\
  --redefine-sym $(f)=civetweb_$(f))
CIVETWEB_FLAGS := -DCIVETWEB_API= -I$(GEN) -I$(SRC)/civetweb/include \
  -include sys/sendfile.h -DNO_SSL -DNO_FILES -DNO_FILESYSTEMS -DNO_CGI \
  -DNO_CACHING -DNO_THREAD_NAME -DNO_ALTERNATIVE_QUEUE -DUSE_STACK_SIZE=262144 \
  -DSOCKET_TIMEOUT_QUANTUM=1000000 \
  -DMG_EXTERNAL_FUNCTION_mg_cry_internal_impl -DMG_EXTERNAL_FUNCTION_log_access
GDB_FLAGS := -DHAVE_CONFIG_H -Iscripts/libbacktrace_config \
  -I$(SRC)/gdb/libbacktrace -I$(SRC)/gdb/include
IBERTY_FLAGS := -DHAVE_CONFIG_H -Iscripts/libbacktrace_config \
  -I$(SRC)/libiberty/include -I$(SRC)/libiberty/libiberty
UNWIND_FLAGS := -DHAVE_CONFIG_H -DUNW_REMOTE_ONLY -Iscripts/libunwind_config \
  -I$(SRC)/libunwind/include -I$(SRC)/libunwind/include/tdep-x86_64 -I$(SRC)/libunwind/src

LIBBACKTRACE := dwarf elf sort
LIBIBERTY    := cp-demangle rust-demangle
# The remote interface for x86-64, without what reads other processes, files and this one.
LIBUNWIND    := $(addprefix dwarf/,Gexpr Gfde Gparser Gpe global) \
  $(addprefix mi/,Gdestroy_addr_space Gfind_dynamic_proc_info \
  Gget_accessors Gget_reg Gput_dynamic_unwind_info Gset_caching_policy Gset_reg flush_cache init) \
  $(addprefix x86_64/,Gcreate_addr_space Gglobal Ginit Ginit_remote Gos-linux Gregs Gstash_frame \
  Gstep is_fpreg)
DEP_OBJECTS  := $(DEPS)/civetweb.o $(LIBBACKTRACE:%=$(DEPS)/libbacktrace_%.o) \
  $(LIBIBERTY:%=$(DEPS)/libiberty_%.o) \
  $(foreach file,$(LIBUNWIND),$(DEPS)/libunwind_$(notdir $(file)).o)
DEP_ARCHIVES := $(DEPS)/libprotobuf-c.a $(DEPS)/libz.a $(DEPS)/libzstd.a
FETCHED      := $(SRC)/.fetched

$(FETCHED): scripts/fetch_deps scripts/debian_source.sh $(wildcard scripts/patches/*)
	@scripts/fetch_deps $(SRC)
	@touch $@

$(DEPS)/civetweb.o: $(FETCHED) $(GEN)/external_log_access.inl \
    $(GEN)/external_mg_cry_internal_impl.inl Makefile
	$(call say,CC,$@)
	$(Q)$(CC) $(CFLAGS_DEPS) $(CIVETWEB_FLAGS) -c $(SRC)/civetweb/src/civetweb.c -o $@.tmp
	@$(OBJCOPY) $(TO_AGENT_MEMORY) $(TO_CIVETWEB_SYSTEM) $@.tmp $@ && rm $@.tmp

$(DEPS)/sanitized_civetweb.o: $(DEPS)/civetweb.o
	$(call say,CC,$@)
	$(Q)$(CC) $(DIALECT) -O1 -g -w -fno-omit-frame-pointer -fsanitize=address \
	  $(CIVETWEB_FLAGS) -c $(SRC)/civetweb/src/civetweb.c -o $@.tmp
	@$(OBJCOPY) $(TO_AGENT_MEMORY) $(TO_CIVETWEB_SYSTEM) $@.tmp $@ && rm $@.tmp

# civetweb's own places for these two functions.
$(GEN)/external_log_access.inl: | $(GEN)
	@echo 'static void log_access(const struct mg_connection *c) { (void)c; }' >$@
$(GEN)/external_mg_cry_internal_impl.inl: | $(GEN)
	@echo 'void civetweb_log(const char *, va_list);' >$@
	@echo 'static void mg_cry_internal_impl(const struct mg_connection *c, const char *f,' >>$@
	@echo '    unsigned l, const char *t, va_list a)' >>$@
	@echo '{ (void)c; (void)f; (void)l; civetweb_log(t, a); }' >>$@

$(DEPS)/libbacktrace_%.o: $(FETCHED) scripts/libbacktrace_config/config.h \
    scripts/libbacktrace_config/backtrace-supported.h Makefile
	$(call say,CC,$@)
	$(Q)$(CC) $(CFLAGS_DEPS) $(GDB_FLAGS) -c $(SRC)/gdb/libbacktrace/$*.c -o $@.tmp
	@$(OBJCOPY) $(TO_AGENT_MEMORY) $@.tmp $@ && rm $@.tmp
$(DEPS)/libiberty_%.o: $(FETCHED) scripts/libbacktrace_config/config.h Makefile
	$(call say,CC,$@)
	$(Q)$(CC) $(CFLAGS_DEPS) $(IBERTY_FLAGS) -c $(SRC)/libiberty/libiberty/$*.c -o $@.tmp
	@$(OBJCOPY) $(TO_AGENT_MEMORY) $@.tmp $@ && rm $@.tmp
define libunwind_object
$(DEPS)/libunwind_$(notdir $(1)).o: $(FETCHED) scripts/libunwind_config/config.h Makefile
	$$(call say,CC,$$@)
	$(Q)$(CC) $(CFLAGS_DEPS) $(UNWIND_FLAGS) -c $(SRC)/libunwind/src/$(1).c -o $$@.tmp
	@$(OBJCOPY) $(TO_AGENT_MEMORY) $$@.tmp $$@ && rm $$@.tmp
$(DEPS)/sanitized_libunwind_$(notdir $(1)).o: $(DEPS)/libunwind_$(notdir $(1)).o
	$$(call say,CC,$$@)
	$(Q)$(CC) $(DIALECT) -O1 -g -w -fno-omit-frame-pointer -fsanitize=address,undefined \
	  -fno-sanitize-recover=all $(UNWIND_FLAGS) -c $(SRC)/libunwind/src/$(1).c -o $$@.tmp
	@$(OBJCOPY) $(TO_AGENT_MEMORY) $$@.tmp $$@ && rm $$@.tmp
endef
$(foreach file,$(LIBUNWIND),$(eval $(call libunwind_object,$(file))))

# The distribution's static archives (PIC).
$(DEPS)/lib%.a: Makefile | $(DEPS)
	@archive=$$($(CC) -print-file-name=lib$*.a); test -f "$$archive" || \
	  { echo "lib$*.a is not installed: run scripts/install_packages build" >&2; exit 1; }; \
	$(OBJCOPY) $(TO_AGENT_MEMORY) "$$archive" $@

PROTO_HEADERS := $(GEN)/profile.pb-c.h $(GEN)/perfetto_trace.pb-c.h
PROTO_OBJECTS := $(OBJ)/profile.pb-c.o $(OBJ)/perfetto_trace.pb-c.o
$(PROTO_HEADERS): $(GEN)/%.pb-c.h: proto/%.proto | $(GEN)
	@command -v protoc-c >/dev/null || \
	  { echo "protoc-c is not installed: run scripts/install_packages build" >&2; exit 1; }
	@protoc-c --c_out=$(GEN) --proto_path=proto $< 2>$(GEN)/$*.protoc.log || \
	  { cat $(GEN)/$*.protoc.log >&2; exit 1; }
$(PROTO_HEADERS:.h=.c): %.c: %.h ;

$(GEN)/linked_versions.h: scripts/linked_versions $(FETCHED) $(DEP_ARCHIVES) | $(GEN)
	@scripts/linked_versions $(SRC) "$(CC)" >$@
$(OBJ)/agent/pages/health_page.o: $(GEN)/linked_versions.h

$(GEN)/page_assets_list.h: scripts/page_assets $(wildcard agent/pages/assets/*) $(FETCHED) | $(GEN)
	@scripts/page_assets $(SRC) $(GEN)
$(OBJ)/agent/pages/page_assets.o: $(GEN)/page_assets_list.h

# ---- the library ---------------------------------------------------------------------------------

# What runs at each start comes first in .text: the kernel maps it with the page that the loader has
# read.
AT_START := shim/next/absent_names shim/next/dynamic_symbols shim/next/loaded_objects \
  shim/startup shim/next/next_functions shim/base/table_memory \
  shim/base/config shim/base/config_reading shim/allocation/heap_sampling \
  shim/stacks/stack_range shim/stacks/stack_capture shim/allocation/live_table \
  shim/processes/fork_interposers shim/processes/thread_count_interposers \
  agent/load agent/agent agent/runtime/agent_thread agent/runtime/bare_thread agent/agent_fork
BINDING := $(OBJ)/shim/next/libc_binding.o
LATER   := $(filter-out shim/next/libc_binding.c,\
  $(wildcard shim/*.c shim/*/*.c agent/*.c agent/*/*.c))
SOURCES := $(AT_START:=.c) $(filter-out $(AT_START:=.c),$(LATER))
OBJECTS := $(SOURCES:%.c=$(OBJ)/%.o) $(PROTO_OBJECTS)
# noseparate-code: two mappings fewer at each exec. layout.ld: what is in which page.
LINK    := -shared -Wl,-soname,libpprofagent.so -Wl,-z,noseparate-code -Wl,-z,now \
  -Wl,-z,relro -Wl,-z,noexecstack -Wl,-z,nodelete -Wl,--no-undefined \
  -Wl,--exclude-libs,ALL -Wl,--gc-sections -Wl,--build-id -Wl,--hash-style=gnu \
  -Wl,-T,shim/layout.ld -nostartfiles -static-libgcc

# What others call by its name has no header of ours: libc's functions, and what civetweb calls.
$(OBJ)/shim/%_interposers.o: CFLAGS_SHIM += -Wno-missing-prototypes
$(OBJ)/agent/http/civetweb_%.o: CFLAGS_OURS += -Wno-missing-prototypes
$(OBJ)/shim/%.o: shim/%.c Makefile | $(FETCHED) $(PROTO_HEADERS)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS_SHIM) -MMD -MP -c $< -o $@
$(OBJ)/agent/%.o: agent/%.c Makefile | $(FETCHED) $(PROTO_HEADERS)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS_OURS) -MMD -MP -c $< -o $@
$(PROTO_OBJECTS): $(OBJ)/%.o: $(GEN)/%.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CFLAGS_DEPS) -I$(GEN) -c $< -o $@
-include $(OBJECTS:.o=.d) $(BINDING:.o=.d)

LINKED  := $(OBJECTS) $(DEP_OBJECTS) $(DEP_ARCHIVES)
# What it would import without shim/next/libc_binding.c: the list that this is made of.
$(OBJ)/unbound.so: $(LINKED) shim/exports.map shim/layout.ld
	$(call say,LINK,$@)
	$(Q)$(CC) $(LINK) -Wl,--version-script,shim/exports.map $(LDFLAGS) -o $@ $(LINKED)
$(GEN)/libc_names.h: $(OBJ)/unbound.so scripts/libc_names
	@libc=$$($(CC) -print-file-name=libc.so.6); for what in list wrap; do \
	  scripts/libc_names $$what $< "$$libc" $(filter-out $(OBJ)/shim/%,$(LINKED)) \
	    >$@.$$what || exit 1; \
	done; mv $@.wrap $(GEN)/libc_wrap; mv $@.list $@
$(BINDING): $(GEN)/libc_names.h

$(LIB): $(BINDING) $(LINKED) shim/exports.map shim/layout.ld
	$(call say,LINK,$@)
	$(Q)$(CC) $(LINK) -Wl,--version-script,shim/exports.map $(LDFLAGS) @$(GEN)/libc_wrap -o $@ \
	  $(BINDING) $(LINKED)

$(GEN) $(DEPS):
	@mkdir -p $@

# ---- tests ---------------------------------------------------------------------------------------

# test/unit_NAME.c is linked with what it needs of the parts below. It tells in comments at its top
# what stands in for some of them, or is compiled once more with its flags (links:, flags:), and
# which sanitizer is meant if not address and undefined behaviour (sanitizer: thread).
UNIT_SOURCES := $(wildcard test/unit_*.c)
# The words behind `/* KEY:` near the file's top, up to `*/`, on any number of lines.
comment = $(strip $(shell awk -v key='/* $(1):' 'NR > 40 { exit } index($$0, key) == 1 { on = 1; \
  $$0 = substr($$0, length(key) + 1) } on { line = $$0; last = sub(/\*\/.*/, "", line); \
  sub(/^ \*/, "", line); print line; if (last) exit }' $(2)))
comma := ,

# The parts: all of the library but the wrappers, which would take the place of libc's functions.
WRAPPERS := $(wildcard shim/*/*_interposers.c) shim/processes/memory_lock.c
PARTS    := $(filter-out $(WRAPPERS) agent/load.c agent/runtime/failed_assertion.c,$(SOURCES))
SANITIZE_asan := -fsanitize=address,undefined -fno-sanitize-recover=all
SANITIZE_tsan := -fsanitize=thread
PART_FLAGS    := $(DIALECT) -O1 -g -Wall -Wextra -fno-omit-frame-pointer
THIRD_PARTY   := $(PROTO_OBJECTS) $(LIBBACKTRACE:%=$(DEPS)/libbacktrace_%.o) \
  $(LIBIBERTY:%=$(DEPS)/libiberty_%.o)
THIRD_PARTY_asan := $(DEPS)/sanitized_civetweb.o \
  $(foreach file,$(LIBUNWIND),$(DEPS)/sanitized_libunwind_$(notdir $(file)).o)
THIRD_PARTY_tsan := $(filter %civetweb.o $(DEPS)/libunwind_%,$(DEP_OBJECTS))
define sanitized_parts
$(BUILD)/$(1)/%.o: %.c Makefile | $(FETCHED) $(PROTO_HEADERS) $(GEN)/linked_versions.h \
    $(GEN)/page_assets_list.h
	@mkdir -p $$(@D)
	$$(call say,CC,$$@)
	$(Q)$(CC) $(PART_FLAGS) $(SANITIZE_$(1)) $(INCLUDE) -MMD -MP -c $$< -o $$@
$(BUILD)/$(1)/parts.a: $(PARTS:%.c=$(BUILD)/$(1)/%.o) $(THIRD_PARTY) $(THIRD_PARTY_$(1))
	@rm -f $$@ && ar rcs $$@ $$^
-include $(PARTS:%.c=$(BUILD)/$(1)/%.d)
endef
$(foreach sanitizer,asan tsan,$(eval $(call sanitized_parts,$(sanitizer))))

$(GEN)/unit_assertion.c: | $(GEN)
	@echo '#include <assert.h>' >$@
	@echo 'void agent_failed_assertion(const char *a, const char *f, unsigned l, const char *n)' >>$@
	@echo '{ __assert_fail(a, f, l, n); }' >>$@
sanitizer_of = $(if $(call comment,sanitizer,$(1)),tsan,asan)
unit_of = $(BUILD)/test/$(if $(call \
  comment,sanitizer,$(1)),$(patsubst test/unit_%.c,tsan_%,$(1)),$(patsubst test/%.c,%,$(1)))
define unit_test
$(3): $(1) $(call comment,links,$(1)) $(BUILD)/$(2)/parts.a $(DEP_ARCHIVES) \
    $(GEN)/unit_assertion.c $(wildcard test/*.h)
	@mkdir -p $(BUILD)/test
	$$(call say,CC,$$@)
	$(Q)$(CC) $(PART_FLAGS) $(SANITIZE_$(2)) $(subst build/,$(BUILD)/,$(call comment,flags,$(1))) \
	  $(INCLUDE) -o $$@ $(1) $(call comment,links,$(1)) -Wl,--start-group \
	  $(BUILD)/$(2)/parts.a $(DEP_ARCHIVES) -Wl,--end-group $(GEN)/unit_assertion.c -pthread -lm
UNIT_TESTS += $(3)
endef
$(foreach source,$(UNIT_SOURCES),$(eval $(call unit_test,$(source),$(call \
  sanitizer_of,$(source)),$(call unit_of,$(source)))))

# Fuzzing: the unit tests that say /* fuzz: bytes */ are built once more, by clang with libFuzzer,
# what they test of others' code too; those with /* fuzz: rounds */ make inputs of their own.
# Without clang all of them are run as the unit tests are.
FUZZ := $(BUILD)/fuzz
FUZZ_CC := clang
FUZZ_NO_STACK := -mllvm -asan-stack=0 -mllvm -asan-instrument-dynamic-allocas=0
FUZZED_FLAGS := $(DIALECT) -O1 -g -w -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address
define fuzzed_object
	@mkdir -p $(@D)
	$(call say,FUZZ,$@)
	$(Q)$(FUZZ_CC) $(FUZZED_FLAGS) $(1) -o $@.tmp
	@$(OBJCOPY) $(TO_AGENT_MEMORY) $(2) $@.tmp $@ && rm $@.tmp
endef
# It is left by longjmp: what the address sanitizer knows of its stack stays behind.
$(FUZZ)/obj/libiberty_%.o: $(DEPS)/libiberty_%.o
	$(call fuzzed_object,$(FUZZ_NO_STACK) $(IBERTY_FLAGS) -c $(SRC)/libiberty/libiberty/$*.c)
$(FUZZ)/obj/libbacktrace_%.o: $(DEPS)/libbacktrace_%.o
	$(call fuzzed_object,$(GDB_FLAGS) -c $(SRC)/gdb/libbacktrace/$*.c)
$(FUZZ)/obj/civetweb.o: $(DEPS)/civetweb.o
	$(call fuzzed_object,$(CIVETWEB_FLAGS) -c $(SRC)/civetweb/src/civetweb.c,$(TO_CIVETWEB_SYSTEM))
$(FUZZ)/obj/parts/%.o: %.c Makefile | $(FETCHED) $(PROTO_HEADERS) $(GEN)/linked_versions.h \
    $(GEN)/page_assets_list.h
	@mkdir -p $(@D)
	$(call say,FUZZ,$<)
	$(Q)$(FUZZ_CC) $(FUZZ_UNIT_FLAGS) -fsanitize=fuzzer-no-link,address,undefined \
	  -MMD -MP -c $< -o $@
-include $(PARTS:%.c=$(FUZZ)/obj/parts/%.d)
FUZZ_UNIT_FLAGS = $(DIALECT) -O1 -g -w -fno-omit-frame-pointer -fno-sanitize-recover=all $(INCLUDE)
$(FUZZ)/obj/parts.a: $(PARTS:%.c=$(FUZZ)/obj/parts/%.o) $(PROTO_OBJECTS) \
    $(LIBIBERTY:%=$(FUZZ)/obj/libiberty_%.o) $(LIBBACKTRACE:%=$(FUZZ)/obj/libbacktrace_%.o) \
    $(FUZZ)/obj/civetweb.o $(filter %.o,$(THIRD_PARTY_asan))
	@rm -f $@ && ar rcs $@ $^
# gcc's words for what clang calls otherwise.
fuzz_flags = $(subst --param asan-stack=0,$(FUZZ_NO_STACK),$(subst build/,$(BUILD)/,$(call \
  comment,flags,$(1))))
define fuzzer
$(patsubst test/unit_fuzz_%.c,$(FUZZ)/%,$(1)): $(1) $(call comment,links,$(1)) \
    $(FUZZ)/obj/parts.a $(DEP_ARCHIVES) $(GEN)/unit_assertion.c $(wildcard test/*.h)
	@mkdir -p $$(@D)
	$$(call say,FUZZ,$$@)
	$$(Q)$(FUZZ_CC) $(FUZZ_UNIT_FLAGS) -DLIBFUZZER -fsanitize=fuzzer,address,undefined \
	  $(call fuzz_flags,$(1)) -o $$@ $(1) $(call comment,links,$(1)) -Wl,--start-group \
	  $(FUZZ)/obj/parts.a $(DEP_ARCHIVES) -Wl,--end-group $(GEN)/unit_assertion.c -pthread -lm
endef
fuzz_sources = $(foreach source,$(UNIT_SOURCES),$(if $(filter $(1),$(call \
  comment,fuzz,$(source))),$(source)))
FUZZ_BYTES := $(call fuzz_sources,bytes)
FUZZ_ROUNDS := $(call fuzz_sources,rounds)
$(foreach source,$(FUZZ_BYTES),$(eval $(call fuzzer,$(source))))

SECONDS := 60
# An hour for all of them.
SOAK_SECONDS = $(shell echo $$((3600 / $(words $(FUZZ_BYTES) $(FUZZ_ROUNDS)))))
fuzz: packages-test
	@$(MAKE) --no-print-directory units
	@command -v $(FUZZ_CC) >/dev/null || exit 0; \
	  $(MAKE) --no-print-directory $(patsubst test/unit_fuzz_%.c,$(FUZZ)/%,$(FUZZ_BYTES))
	$(PYTHON) test/fuzz.py $(SECONDS) $(TESTS)

# A static pattern: make looks up no pattern rule for a phony target, so a plain `packages-%:` is
# never run.
PACKAGES := $(addprefix packages-,demo test soak bench fresh stacks lint coverage pictures)
.PHONY: $(PACKAGES)
$(PACKAGES): packages-%:
	@scripts/install_packages $*

# The library and, in it, what compares its two engines (test_unwind_oracle.py, make bench).
ORACLE := $(BUILD)/test/unwind_oracle.so
ORACLE_SOURCES := test/workloads/unwind_oracle.c test/bench/unwind_engines.c
$(ORACLE): $(ORACLE_SOURCES) $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)for source in $(ORACLE_SOURCES); do \
	  $(CC) $(CFLAGS_OURS) -c $$source -o $(OBJ)/$$(basename $$source .c).o || exit 1; \
	done
	$(Q)$(CC) $(LINK) -Wl,--version-script,shim/exports.map $(LDFLAGS) @$(GEN)/libc_wrap -o $@ \
	  $(BINDING) $(LINKED) $(foreach source,$(ORACLE_SOURCES),$(OBJ)/$(notdir $(source:.c=.o)))

# Two at a time, those of one file one after the other; what fails is run again (test/conftest.py).
JOBS   ?= 2
PYTEST := $(PYTHON) -m pytest -v -n $(JOBS) --dist loadfile --reruns 1
empty  :=
chosen  = $(if $(1),-k '$(subst $(empty) $(empty), or ,$(strip $(1)))')

test: packages-test
	@$(MAKE) --no-print-directory all units
	$(PYTEST) $(call chosen,$(TESTS))
units: $(UNIT_TESTS) $(ORACLE)
.PHONY: units

check quick: all units
	$(PYTEST) $(call chosen,$(or $(TESTS),unit_ tsan_ test_elf test_server test_guest test_heap_exact))

# One unit test with what it prints: make unit T=tables
unit:
	@$(if $(T),,echo 'make unit T=NAME, for test/unit_NAME.c'; exit 2)
	@$(MAKE) --no-print-directory $(filter %/unit_$(T) %/tsan_$(T),$(UNIT_TESTS))
	$(filter %/unit_$(T) %/tsan_$(T),$(UNIT_TESTS))

# The library for the debugger; tests use it with PPROFAGENT_SO=build/debug/libpprofagent.so.
debug:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/debug OPTIMIZE='-O0 -g3' all

# Which lines the unit tests reach; $(BUILD)/coverage/index.html has each file.
COVERAGE := $(BUILD)/coverage
COVERING := $(patsubst $(BUILD)/%,$(COVERAGE)/%,$(filter $(BUILD)/test/unit_%,$(UNIT_TESTS)))
coverage: packages-coverage
	@$(MAKE) --no-print-directory BUILD=$(COVERAGE) \
	  SANITIZE_asan='$(SANITIZE_asan) --coverage -fprofile-update=atomic' $(COVERING)
	@find $(COVERAGE) -name '*.gcda' -delete
	for test in $(COVERING); do \
	  FUZZ_SECONDS=1 $$test >/dev/null || echo "$$test has failed"; done
	cd $(COVERAGE) && gcovr --root $(CURDIR) --object-directory asan --filter $(CURDIR)/agent/ \
	  --filter $(CURDIR)/shim/ --html-details index.html --print-summary asan

compile_commands.json: Makefile scripts/compile_commands
	@$(MAKE) --no-print-directory all
	$(MAKE) -Bn V=1 all | scripts/compile_commands >$@
.PHONY: unit debug coverage

bench: packages-bench
	@$(MAKE) --no-print-directory all $(ORACLE)
	$(PYTHON) test/bench/run.py $(BENCH)

stacks: packages-stacks all
	$(PYTHON) test/bench/stacks.py

soak: packages-soak
	@$(MAKE) --no-print-directory all units
	SOAK=1 $(PYTEST) --timeout=0 $(call chosen,$(TESTS))
	@$(MAKE) --no-print-directory fuzz SECONDS=$(SOAK_SECONDS)

# Which room includes which, and uses names of which, where it is built: ARCHITECTURE.md; whether
# all is as its formatter writes it; what cppcheck and tsc find.
lint: packages-lint
	@$(PYTHON) scripts/check_rooms $(if $(wildcard $(LIB)),$(OBJ))
	@scripts/check_style
	@scripts/check_faults
format: packages-lint
	@scripts/check_style --write
.PHONY: lint format

# The library's unit-tested parts are built with sanitizers by `make units`; this runs only those.
asan: units
	$(PYTEST) test/test_units.py

# ---- for users -----------------------------------------------------------------------------------

demo: packages-demo
	@test -f $(LIB) || echo '  BUILD   $(LIB)'
	@$(MAKE) --no-print-directory -s all
	@scripts/demo

# docs/pictures: of the pages, with redis and nginx.
pictures: packages-pictures all
	@$(PYTHON) test/pictures.py

# The README's first command (FULL=1: both) on the commit, in a bare Debian root.
fresh: packages-fresh
	@FULL='$(FULL)' TESTS='$(TESTS)' scripts/fresh $(RELEASE)

install: all
	install -D -m 755 $(LIB) $(DESTDIR)$(PREFIX)/lib/libpprofagent.so
	install -D -m 755 scripts/pprofagent $(DESTDIR)$(PREFIX)/bin/pprofagent
	install -D -m 644 include/pprof_trace.h $(DESTDIR)$(PREFIX)/include/pprof_trace.h

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/lib/libpprofagent.so $(DESTDIR)$(PREFIX)/bin/pprofagent \
	  $(DESTDIR)$(PREFIX)/include/pprof_trace.h

clean:
	rm -rf $(BUILD)

help:
	@echo 'make            builds $(LIB); the first time it fetches pinned sources'
	@echo '                (CIVETWEB_SRC=, ...: your own)'
	@echo 'make demo       installs what is missing, runs redis-server under the agent and shows its'
	@echo '                heap; KEEP=1 leaves it running'
	@echo 'make test       installs what is missing, builds, runs every test'
	@echo '                (TESTS="word ..." only those)'
	@echo 'make check      the quick tests, on what is installed'
	@echo 'make unit       T=NAME: test/unit_NAME.c alone, with what it prints'
	@echo 'make debug      the library at -O0, in $(BUILD)/debug'
	@echo 'make coverage   which lines the unit tests reach; $(BUILD)/coverage/index.html'
	@echo 'make lint       includes, names, formats; cppcheck; the types of the scripts'
	@echo 'make format     C and Python as .clang-format and pyproject.toml say'
	@echo 'make asan       the unit tests, built with address, undefined-behaviour, thread sanitizers'
	@echo 'make fuzz       random inputs under the sanitizers, SECONDS=60 each; found: $(BUILD)/fuzz'
	@echo 'make bench      side by side with peers; prints ratios'
	@echo 'make stacks     how many stacks of packaged programs are cut; writes docs/stacks.md'
	@echo 'make pictures   docs/pictures: the pages of redis and nginx, in chromium'
	@echo 'make fresh      make demo on the commit in a bare Debian root (FULL=1: make test too)'
	@echo 'make soak       the slow suites (writes docs/do-no-harm.md), then an hour of make fuzz'
	@echo 'make install    PREFIX=$(PREFIX) DESTDIR=$(DESTDIR); make uninstall'
	@echo 'make clean      removes $(BUILD)/ (downloads stay in the cache)'
