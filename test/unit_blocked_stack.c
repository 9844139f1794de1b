/* links: test/agent_memory_libc.c test/stub_debug_frames.c */
/* flags: -Wno-unused-parameter */
/* Stacks of other threads: prologues in the forms that compilers write, a thread that is really
 * blocked, and stacks of rubbish, of which nothing may come but addresses of code and a marker. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/threads/blocked_stack.h"
#include "agent/stacks/call_site.h"
#include "agent/stacks/prologue.h"
#include "shim/base/counters.h"
#include "shim/stacks/unwind_rule.h"
#include "check.h"

/* ---- in place of what is not tested here ---- */

struct dl_find_object;
struct shim_counters shim_counters;
void module_registry_note(const struct dl_find_object *found) {}
uint32_t module_registry_epoch_of(const uint64_t *frames, uint32_t frame_count) { return 7; }
const struct mapping *mappings_find(const struct mappings *set, uint64_t address, uint32_t epoch) {
  return NULL;
}
char *process_read_file(const char *path, size_t limit, size_t *size) { return NULL; }

/* ---- prologues ---- */

struct case_of_prologue {
  const char *what, *code; /* hexadecimal */
  int found;
  uint32_t last, least, rounded;
};

static const struct case_of_prologue prologues[] = {
    {"gcc -O0", "554889e54883ec20", 1, 0x20, 0x20, 0},
    {"endbr64, -O0, no room", "f30f1efa554889e5", 1, 0, 0, 0},
    {"gcc -O2: moves between, callee-saved registers", "554889f84889e54157415641554154534883ec18",
     1, 5 * 8 + 0x18, 5 * 8 + 0x18, 0},
    {"large room", "554889e54881ec88130000", 1, 5000, 5000, 0},
    {"room of 128 bytes", "554889e54883c480", 1, 128, 128, 0},
    {"clang: room by a push", "554889e5415750", 1, 16, 0, 0},
    {"lea sets it up", "554883ec30488d6c2420", 1, 0x20, 0, 0},
    {"realigned", "554889e54883e4c04881ec80000000", 1, 0x80, 0x80, 1},
    {"touched page by page", "554889e54881ec0010000048830c24004881ec0010000048830c24004883ec10", 1,
     0x2010, 0x2010, 0},
    {"touched in a loop", "554889e54c8d9c2400b0ffff4881ec0010000048830c24004c39dc75ef4883ec30", 1,
     0x5030, 0x5030, 0},
    {"alloca follows: the rest is not known", "554889e54883ec104829c4", 1, 0x10, 0x10, 0},
    {"arguments of the first call: the room is not lost", "554889e54883ec104883ec086a09", 1, 0x20,
     0x10, 0},
    {"no frame pointer", "4883ec28", 0, 0, 0, 0},
    {"not reached: a call comes first", "e800000000554889e5", 0, 0, 0, 0},
};

static void test_prologues(struct memory_reader *memory) {
  static uint8_t code[64];
  for (size_t i = 0; i < sizeof prologues / sizeof *prologues; i++) {
    const struct case_of_prologue *test = &prologues[i];
    size_t size = strlen(test->code) / 2;
    for (size_t k = 0; k < size; k++) sscanf(test->code + 2 * k, "%2hhx", &code[k]);
    memory_reader_forget(memory);
    struct prologue prologue;
    int found = prologue_read(memory, (uintptr_t)code, (uintptr_t)code + size, &prologue);
    if (found != test->found ||
        (found && (prologue.below[prologue.count - 1] != test->last ||
                   prologue.least != test->least || prologue.rounded != test->rounded))) {
      failures++;
      printf("prologue %s: found %d, last %u, least %u, rounded %d\n", test->what, found,
             found ? prologue.below[prologue.count - 1] : 0, prologue.least, prologue.rounded);
    }
  }
}

/* ---- call sites ---- */

__attribute__((noinline)) static void called(void) { __asm__ volatile(""); }
__attribute__((noinline)) static void other(void) { __asm__ volatile("nop"); }
__attribute__((noinline)) static uintptr_t own_return(void) {
  return (uintptr_t)__builtin_return_address(0);
}

static void test_call_sites(struct memory_reader *memory) {
  struct code_view code = {memory, NULL};
  struct cfi_rule target, wrong;
  CHECK(unwind_rule_find((uintptr_t)own_return, &target) &&
        unwind_rule_find((uintptr_t)other, &wrong));
  uintptr_t here = own_return();
  uintptr_t (*volatile pointer)(void) = own_return;
  uintptr_t indirect = pointer();
  called(), other();
  memory_reader_forget(memory);
  CHECK(call_site_evidence(&code, here, target.start, target.end) == CALL_CERTAIN);
  CHECK(call_site_evidence(&code, here, wrong.start, wrong.end) == CALL_CONTRADICTED);
  CHECK(call_site_evidence(&code, indirect, target.start, target.end) == CALL_INDIRECT);
  CHECK(call_site_evidence(&code, indirect, wrong.start, wrong.end) == CALL_INDIRECT);
  CHECK(call_site_evidence(&code, (uintptr_t)called, target.start, target.end) == CALL_NONE);
  CHECK(call_site_evidence(&code, 5, target.start, target.end) == CALL_NONE);
  CHECK(call_site_evidence(&code, (uintptr_t)memory, target.start, target.end) == CALL_NONE);
}

/* ---- a thread that is blocked ---- */

static int pipe_ends[2];
static _Atomic int blocked_tid;

__attribute__((noinline)) static void waits(void) {
  __attribute__((unused)) volatile char room[2000];
  char byte;
  room[0] = 1;
  if (read(pipe_ends[0], &byte, 1) < 0) abort();
  room[1] = 1;
}
__attribute__((noinline)) static void outer(void) {
  __attribute__((unused)) volatile char room[100];
  room[0] = 1;
  waits();
  room[1] = 1;
}
static void *start(void *nothing) {
  blocked_tid = (int)syscall(SYS_gettid);
  outer();
  return nothing;
}

static int is_within(uint64_t frame, void (*function)(void)) {
  struct cfi_rule rule;
  return unwind_rule_find((uintptr_t)function, &rule) && frame > rule.start && frame <= rule.end;
}

static void test_blocked_thread(struct blocked_stack_reader *reader) {
  pthread_t thread;
  CHECK(pipe(pipe_ends) == 0 && pthread_create(&thread, NULL, start, NULL) == 0);
  char path[64], text[256];
  struct blocked_registers registers = {0};
  for (int tries = 0; tries < 10000 && !registers.pc; tries++) {
    usleep(1000);
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", blocked_tid);
    FILE *file = fopen(path, "r");
    if (file && fgets(text, sizeof text, file) && atoi(text) == SYS_read && text[0] == '0')
      sscanf(text, "%*d %*x %*x %*x %*x %*x %*x %lx %lx", &registers.sp, &registers.pc);
    if (file) fclose(file);
  }
  CAPTURED_STACK(stack);
  uint32_t epoch;
  CHECK(blocked_stack_read(reader, &registers, stack, &epoch) && epoch == 7);
  CHECK(stack->frame_count > 4 && stack->frames[stack->frame_count - 1] >= STACK_MARKER_LIMIT);
  uint32_t i = 0;
  while (i < stack->frame_count && !is_within(stack->frames[i], waits)) i++;
  CHECK(i + 2 < stack->frame_count && is_within(stack->frames[i + 1], outer) &&
        is_within(stack->frames[i + 2], (void (*)(void))start));
  CHECK(write(pipe_ends[1], "x", 1) == 1);
  pthread_join(thread, NULL);
}

/* ---- rubbish ---- */

static uint64_t state = 88172645463325252ull;
static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

static void test_rubbish(struct blocked_stack_reader *reader, long rounds) {
  enum { WORDS = 2048 };
  uint64_t *region =
      mmap(NULL, WORDS * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  Dl_info libc;
  CHECK(dladdr((void *)(uintptr_t)read, &libc) != 0);
  const uint64_t code[] = {(uint64_t)libc.dli_fbase + 0x26000, (uint64_t)(uintptr_t)test_rubbish,
                           (uint64_t)(uintptr_t)waits};
  long frames = 0;
  for (long round = 0; round < rounds; round++) {
    for (int i = 0; i < WORDS; i++) {
      uint64_t random = next();
      switch (random >> 61) {
        case 0: region[i] = (uint64_t)&region[random % WORDS]; break;
        case 1: region[i] = (uint64_t)&region[(i + 2 + random % 16) % WORDS]; break;
        case 2: region[i] = code[0] + random % 0x150000; break;
        case 3: region[i] = code[1] + random % 2000; break;
        case 4: region[i] = code[2] + random % 200; break;
        case 5: region[i] = 0; break;
        default: region[i] = random;
      }
    }
    struct blocked_registers registers = {.pc = code[next() % 3] + next() % 300,
                                          .sp = (uintptr_t)&region[next() % WORDS],
                                          .exact = next() & 1};
    CAPTURED_STACK(stack);
    uint32_t epoch;
    CHECK(blocked_stack_read(reader, &registers, stack, &epoch));
    CHECK(stack->frame_count >= 1 && stack->frame_count <= STACK_DEFAULT_FRAMES + 1);
    for (uint32_t i = 1; i < stack->frame_count; i++) {
      struct dl_find_object found;
      bool marker = stack->frames[i] < STACK_MARKER_LIMIT;
      CHECK(!marker || i == stack->frame_count - 1 || stack_marker_is_missing(stack->frames[i]));
      CHECK(marker || _dl_find_object((void *)stack->frames[i], &found) == 0);
    }
    frames += stack->frame_count;
  }
  munmap(region, WORDS * 8);
  if (frames < rounds * 2)
    printf("only %ld frames in %ld rounds: the test tests little\n", frames, rounds);
  CHECK(frames >= rounds * 2);
}

int main(int argc, char **argv) {
  struct blocked_stack_reader *reader = blocked_stack_reader_new(NULL, 0, 0);
  CHECK(reader != NULL);
  test_prologues(blocked_stack_memory(reader));
  test_call_sites(blocked_stack_memory(reader));
  test_blocked_thread(reader);
  test_rubbish(reader, argc > 1 ? atol(argv[1]) : 600);
  blocked_stack_reader_release(reader);
  return failures != 0;
}
