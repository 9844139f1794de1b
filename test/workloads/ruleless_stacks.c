/* flags: -O1
 * Stacks through code without unwind rules, with the truth by construction.
 *
 *   ruleless_stacks jit        a made function with a frame pointer calls back
 *   ruleless_stacks assembly   leaves without CFI: in their prologue, body and epilogue most of the
 *                              time, with pushes and room on the stack
 *   ruleless_stacks number     a made function that keeps no frame pointer: rbp is a number
 *   ruleless_stacks bait       its rbp leads to words that look like frames, but their return
 *                              addresses follow no call; the code says where the right one is
 *   ruleless_stacks hidden     the same, and the code does not say it: it returns by a jump
 *   ruleless_stacks nested     assembly that calls assembly, without frame pointers
 *   ruleless_stacks interpreter  as HotSpot's: its caller's arguments are moved below what that has
 *                              pushed, and the address that a call returns to is pushed, not called
 *
 * Allocates and computes until a line comes. */
#define _GNU_SOURCE
#include <poll.h>
#include <sys/mman.h>

#include "workload.h"

enum { PAGE = 4096, ALLOCATION = 5000 };

static int line_waits(void) {
  struct pollfd input = {.fd = 0, .events = POLLIN};
  return poll(&input, 1, 0) == 1;
}

static FRAME void compute(void) {
  volatile uint64_t sum = 0;
  for (int i = 0; i < 100000; i++) sum += (uint64_t)i;
}

static FRAME void called_back(void) {
  free(keep(malloc(ALLOCATION)));
  compute();
  __asm__ volatile("");
}

typedef void made_function(void (*callback)(void), void *frame);

/* Executable memory with these bytes, as a JIT compiler has them. */
static made_function *make(const uint8_t *code, size_t size) {
  uint8_t *memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  memcpy(memory, code, size);
  CHECK(mprotect(memory, PAGE, PROT_READ | PROT_EXEC) == 0);
  return (made_function *)memory;
}

/* push rbp; mov rbp,rsp; push rbx; sub rsp,24; call rdi; add rsp,24; pop rbx; pop rbp; ret */
static const uint8_t framed[] = {0x55, 0x48, 0x89, 0xe5, 0x53, 0x48, 0x83, 0xec, 24,
                                 0xff, 0xd7, 0x48, 0x83, 0xc4, 24,   0x5b, 0x5d, 0xc3};
/* push rbp; mov ebp,1234567; sub rsp,16; call rdi; add rsp,16; pop rbp; ret */
static const uint8_t frameless[] = {0x55, 0xbd, 0x87, 0xd6, 0x12, 0x00, 0x48, 0x83, 0xec,
                                    16,   0xff, 0xd7, 0x48, 0x83, 0xc4, 16,   0x5d, 0xc3};
/* push rbp; mov rbp,rsi; sub rsp,16; call rdi; add rsp,16; pop rbp; ret */
static const uint8_t misled[] = {0x55, 0x48, 0x89, 0xf5, 0x48, 0x83, 0xec, 16,
                                 0xff, 0xd7, 0x48, 0x83, 0xc4, 16,   0x5d, 0xc3};

/* push rbp; mov rbp,rsi; sub rsp,16; call rdi; add rsp,16; pop rbp; pop rcx; jmp rcx */
static const uint8_t jumping[] = {0x55, 0x48, 0x89, 0xf5, 0x48, 0x83, 0xec, 16,   0xff,
                                  0xd7, 0x48, 0x83, 0xc4, 16,   0x5d, 0x59, 0xff, 0xe1};

static FRAME void through_made(made_function *made, void *frame) {
  made(called_back, frame);
  __asm__ volatile("");
}

FRAME void never_called(void) { say("never\n"); }

/* A frame that leads nowhere above the made function's own. */
static FRAME void with_bait(made_function *made) {
  void *volatile bait[4];
  bait[0] = (void *)&bait[2];
  bait[1] = (char *)never_called + 1;
  bait[2] = (void *)&bait[3];
  bait[3] = (char *)never_called + 1;
  through_made(made, (void *)bait);
  __asm__ volatile("" : : "r"(bait) : "memory");
}

/* Leaves as in libraries of arithmetic: what they save is on the stack, there is no CFI. */
void saving_leaf(long turns);
void plain_leaf(long turns);
void framed_leaf(long turns);
__asm__(
    ".text\n.globl saving_leaf\n.type saving_leaf,@function\nsaving_leaf:\n"
    "push %rbx\npush %rbp\npush %r12\nsub $40,%rsp\nmovups %xmm0,(%rsp)\n"
    "1: mov %rdi,%rbp\nimul $3,%rbp\npush %rbp\npop %rbx\n"
    "sub $1,%rdi\njne 1b\n"
    "add $40,%rsp\npop %r12\npop %rbp\npop %rbx\nret\n.size saving_leaf,.-saving_leaf\n"
    ".globl plain_leaf\n.type plain_leaf,@function\nplain_leaf:\n"
    "1: imul $3,%rax\ntest %rdi,%rdi\nje 2f\nsub $1,%rdi\njmp 1b\n"
    "2: vzeroupper\nret\n.size plain_leaf,.-plain_leaf\n"
    ".globl framed_leaf\n.type framed_leaf,@function\nframed_leaf:\n"
    "push %rbp\nmov %rsp,%rbp\nsub $64,%rsp\nand $-32,%rsp\n"
    "1: imul $3,%rax\nsub $1,%rdi\njne 1b\nleave\nret\n.size framed_leaf,.-framed_leaf\n");

static FRAME void call_leaves(void) {
  saving_leaf(20000);
  __asm__ volatile("");
  plain_leaf(20000);
  __asm__ volatile("");
  framed_leaf(20000);
  __asm__ volatile("");
  for (int i = 0; i < 3000; i++) { /* in their first and last instructions often */
    saving_leaf(1);
    plain_leaf(1);
    framed_leaf(1);
  }
  __asm__ volatile("");
}

/* rbp is a number in all of them. */
void outer_asm(long turns);
void middle_asm(long turns);
__asm__(
    ".text\n.globl outer_asm\n.type outer_asm,@function\nouter_asm:\n"
    "push %rbp\npush %rbx\nmov $1234567,%ebp\nsub $24,%rsp\nmov %rdi,%rbx\ncall middle_asm\n"
    "mov %rbx,%rdi\ncall middle_asm\nadd $24,%rsp\npop %rbx\npop %rbp\nret\n"
    ".size outer_asm,.-outer_asm\n"
    ".globl middle_asm\n.type middle_asm,@function\nmiddle_asm:\n"
    "sub $56,%rsp\ncall plain_leaf\nadd $56,%rsp\nret\n.size middle_asm,.-middle_asm\n");

/* compiled calls interpreted code by way of an adapter. */
void compiled(void (*callback)(void));
__asm__(
    ".text\n.globl compiled\n.type compiled,@function\ncompiled:\n"
    "push %rbp\npush %r13\nmov $1234567,%ebp\nsub $24,%rsp\ncall adapter\n"
    "add $24,%rsp\npop %r13\npop %rbp\nret\n.size compiled,.-compiled\n"
    "adapter: pop %rax\nmov %rsp,%r13\nsub $40,%rsp\npush %rax\njmp interpreted\n"
    ".globl interpreted\n.type interpreted,@function\ninterpreted:\n"
    "push %rbp\nmov %rsp,%rbp\npush %r13\npush $0\nsub $32,%rsp\nand $-16,%rsp\n"
    "mov %rsp,-16(%rbp)\nlea 1f(%rip),%rax\npush %rax\njmp *%rdi\nnop\nnop\nnop\nnop\n"
    "1: mov -16(%rbp),%rsp\nmovq $0,-16(%rbp)\n"
    "mov -8(%rbp),%rcx\nmov 8(%rbp),%rax\nmov (%rbp),%rbp\nmov %rcx,%rsp\njmp *%rax\n"
    ".size interpreted,.-interpreted\n");

static FRAME void call_assembly(const char *how) {
  if (strcmp(how, "nested") == 0) outer_asm(20000);
  else compiled(called_back);
  __asm__ volatile("");
}

static FRAME void run(const char *how) {
  made_function *made = strcmp(how, "jit") == 0      ? make(framed, sizeof framed)
                        : strcmp(how, "number") == 0 ? make(frameless, sizeof frameless)
                        : strcmp(how, "bait") == 0   ? make(misled, sizeof misled)
                                                     : make(jumping, sizeof jumping);
  while (!line_waits()) {
    if (strcmp(how, "assembly") == 0) call_leaves();
    else if (strcmp(how, "nested") == 0 || strcmp(how, "interpreter") == 0) call_assembly(how);
    else if (strcmp(how, "bait") == 0 || strcmp(how, "hidden") == 0) with_bait(made);
    else through_made(made, NULL);
  }
  __asm__ volatile("");
}

int main(int argc, char **argv) {
  CHECK(argc > 1);
  ready();
  run(argv[1]);
  CHECK(wait_for_line());
  ready();
  return 0;
}
