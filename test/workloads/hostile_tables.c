/* flags: -O1
 * Code whose unwind tables lie, and a library whose tables cannot be read.
 *
 *   hostile_tables offset        an offset after an expression: not valid, and once taken for the
 *                                expression's address
 *   hostile_tables elsewhere     a thread's function whose CFA is on no stack, where return
 *                                addresses wait that lead into never_called
 *   hostile_tables HOW LIBRARY   HOW: header, frames, start (pages that are protected: of
 *                                .eh_frame_hdr, of what lies behind it, of the ELF header), beyond
 *                                (the page of .eh_frame_hdr is behind the end of its file)
 *
 * Allocates and computes there, until a line comes. Says how many allocations there were. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>

#include "workload.h"

enum { PAGE = 4096, REGION_PAGES = 16, ALLOCATION = 5000 };

typedef void *allocate_function(size_t size);
extern allocate_function hostile_offset;
void *hostile_elsewhere(void *fake_frame, size_t size);

/* DW_CFA_def_cfa_expression: rsp + 8, then a def_cfa_offset. */
__asm__(
    ".text\n.globl hostile_offset\n.type hostile_offset,@function\nhostile_offset:\n"
    ".cfi_startproc\n.cfi_escape 0x0f,2,0x77,8\n"
    "sub $8,%rsp\n.cfi_def_cfa_offset 16\n"
    "call malloc@PLT\nadd $8,%rsp\nret\n.cfi_endproc\n.size hostile_offset,.-hostile_offset\n");

/* CFA: rbp + 16, where rbp is what the caller says. */
__asm__(
    ".globl hostile_elsewhere\n.type hostile_elsewhere,@function\nhostile_elsewhere:\n"
    ".cfi_startproc\npush %rbp\n.cfi_def_cfa_offset 16\n.cfi_offset 6,-16\n"
    "mov %rdi,%rbp\n.cfi_def_cfa_register 6\nmov %rsi,%rdi\n"
    "call malloc@PLT\npop %rbp\n.cfi_def_cfa 7,8\nret\n.cfi_endproc\n"
    ".size hostile_elsewhere,.-hostile_elsewhere\n");

FRAME void never_called(void) { say("never\n"); }

static int line_waits(void) {
  struct pollfd input = {.fd = 0, .events = POLLIN};
  return poll(&input, 1, 0) == 1;
}

static FRAME void *compute(void) {
  volatile uint64_t sum = 0;
  for (int i = 0; i < 200000; i++) sum += (uint64_t)i;
  return NULL;
}

static FRAME void work(allocate_function *allocate, void *(*spin)(void)) {
  long count = 0;
  for (; !line_waits(); count++) {
    free(keep(allocate(ALLOCATION)));
    spin();
  }
  say("%ld allocations\n", count);
}

/* ---- tables that lie ---- */

static void **fake_frames;

static FRAME void *elsewhere(size_t size) { return hostile_elsewhere(fake_frames, size); }

static void *work_elsewhere(void *unused) {
  (void)unused;
  CHECK((uintptr_t)fake_frames > (uintptr_t)__builtin_frame_address(0));
  work(elsewhere, compute);
  return NULL;
}

/* Above the thread's stack, which is mapped later. */
static void start_elsewhere(void) {
  pthread_t thread;
  fake_frames =
      mmap(NULL, REGION_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(fake_frames != MAP_FAILED);
  for (int i = 0; i < REGION_PAGES * PAGE / 8; i++) fake_frames[i] = (char *)never_called + 4;
  CHECK(pthread_create(&thread, NULL, work_elsewhere, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
}

/* ---- tables that cannot be read ---- */

static void protect(uintptr_t from, uintptr_t to) {
  CHECK(mprotect((void *)from, to - from, PROT_NONE) == 0);
}

static void move_beyond_end(uintptr_t page) {
  int empty = memfd_create("empty", 0);
  void *at = mmap((void *)page, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, empty, 0);
  CHECK(empty >= 0 && at == (void *)page);
}

static void spoil(const char *how, uintptr_t symbol) {
  struct dl_find_object found;
  CHECK(_dl_find_object((void *)symbol, &found) == 0 && found.dlfo_eh_frame);
  uintptr_t start = (uintptr_t)found.dlfo_map_start, page = (uintptr_t)found.dlfo_eh_frame;
  page &= ~(uintptr_t)(PAGE - 1);
  if (strcmp(how, "header") == 0) protect(page, page + PAGE);
  if (strcmp(how, "frames") == 0) protect(page + PAGE, page + 2 * PAGE);
  if (strcmp(how, "start") == 0) protect(start, start + PAGE);
  if (strcmp(how, "beyond") == 0) move_beyond_end(page);
}

int main(int argc, char **argv) {
  CHECK(argc > 1);
  if (strcmp(argv[1], "offset") == 0) {
    ready();
    work(hostile_offset, compute);
  } else if (strcmp(argv[1], "elsewhere") == 0) {
    ready();
    start_elsewhere();
  } else {
    CHECK(argc > 2);
    void *library = dlopen(argv[2], RTLD_NOW);
    CHECK(library);
    allocate_function *allocate = (allocate_function *)dlsym(library, "spoilt_allocate");
    void *(*spin)(void) = (void *(*)(void))dlsym(library, "spoilt_spin");
    CHECK(allocate && spin);
    spoil(argv[1], (uintptr_t)dlsym(library, "spoilt_allocate"));
    ready();
    work(allocate, spin);
  }
  CHECK(wait_for_line());
  ready();
  return 0;
}
