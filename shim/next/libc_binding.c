#include "libc_binding.h"

#include <stdatomic.h>
#include <stddef.h>

#include "dynamic_symbols.h"
#include "libc_names.h" /* scripts/libc_names */
#include "loaded_objects.h"

enum { NAME_MAX_LENGTH = 32, VERSION_MAX_LENGTH = 16 };
/* In place, so that the table needs no relocation. */
static const struct libc_function {
  char name[NAME_MAX_LENGTH], version[VERSION_MAX_LENGTH];
} functions[] = {
#define X(number, name, call, version) [number] = {#name, #version},
    LIBC_FUNCTIONS(X)
#undef X
};

/* NULL: not looked up yet. Every thread that finds one writes the same. */
_Atomic uintptr_t libc_slots[sizeof functions / sizeof *functions]
    __attribute__((visibility("hidden")));

/* libc and the loader: there from the start, and for ever. */
static const struct link_map *_Atomic libc_object, *_Atomic loader_object;

static const struct link_map *find_object(const struct link_map *_Atomic *kept,
                                          bool (*is_it)(const struct link_map *)) {
  const struct link_map *map = atomic_load_explicit(kept, memory_order_relaxed);
  if (map) return map;
  for (map = loaded_objects_first(); map && !is_it(map);) map = map->l_next;
  if (map) atomic_store_explicit(kept, map, memory_order_relaxed);
  return map;
}

static void *find_in(const struct link_map *object, const struct libc_function *function) {
  struct dynamic_symbols symbols;
  if (!object || !dynamic_symbols_open(&symbols, object->l_addr, object->l_ld)) return NULL;
  return dynamic_symbols_find_version(&symbols, function->name, function->version);
}

uintptr_t libc_binding_find(uint32_t number) {
  const struct libc_function *function = &functions[number];
  void *address = find_in(find_object(&libc_object, loaded_object_is_libc), function);
  if (!address) address = find_in(find_object(&loader_object, loaded_object_is_loader), function);
  if (!address) __builtin_trap(); /* cannot be: the loader has asked for LIBC_NEWEST */
  atomic_store_explicit(&libc_slots[number], (uintptr_t)address, memory_order_relaxed);
  return (uintptr_t)address;
}

#if defined(__x86_64__)

/* The first call of each: every register that may carry an argument is kept (al: the number of
 * vector registers that do). */
__asm__(
    ".pushsection .text.libc_binding,\"ax\",@progbits\n"
    ".type libc_bind,@function\n"
    "libc_bind:\n"
    ".cfi_startproc\n"
    "push %rbp\n"
    ".cfi_adjust_cfa_offset 8\n"
    ".cfi_rel_offset %rbp, 0\n"
    "mov %rsp, %rbp\n"
    ".cfi_def_cfa_register %rbp\n"
    "push %rax; push %rdi; push %rsi; push %rdx; push %rcx; push %r8; push %r9; push %r10\n"
    "sub $128, %rsp\n"
    "and $-16, %rsp\n"
    "movaps %xmm0, (%rsp); movaps %xmm1, 16(%rsp); movaps %xmm2, 32(%rsp); movaps %xmm3, 48(%rsp)\n"
    "movaps %xmm4, 64(%rsp); movaps %xmm5, 80(%rsp)\n"
    "movaps %xmm6, 96(%rsp); movaps %xmm7, 112(%rsp)\n"
    "mov %r11d, %edi\n"
    "call libc_binding_find\n"
    "mov %rax, %r11\n"
    "movaps (%rsp), %xmm0; movaps 16(%rsp), %xmm1; movaps 32(%rsp), %xmm2; movaps 48(%rsp), %xmm3\n"
    "movaps 64(%rsp), %xmm4; movaps 80(%rsp), %xmm5\n"
    "movaps 96(%rsp), %xmm6; movaps 112(%rsp), %xmm7\n"
    "lea -64(%rbp), %rsp\n"
    "pop %r10; pop %r9; pop %r8; pop %rcx; pop %rdx; pop %rsi; pop %rdi; pop %rax\n"
    "pop %rbp\n"
    ".cfi_def_cfa %rsp, 8\n"
    ".cfi_restore %rbp\n"
    "jmp *%r11\n"
    ".cfi_endproc\n"
    ".size libc_bind, .-libc_bind\n"
    ".popsection");

#define X(number, name, call, version)                     \
  __asm__(                                                 \
      ".pushsection .text.libc_binding,\"ax\",@progbits\n" \
      ".globl " #call "\n.hidden " #call "\n.type " #call  \
      ",@function\n"                                       \
      ".balign 16\n" #call                                 \
      ":\n"                                                \
      ".cfi_startproc\n"                                   \
      "endbr64\n"                                          \
      "mov libc_slots + 8 * " #number                      \
      "(%rip), %r11\n"                                     \
      "test %r11, %r11\n"                                  \
      "jz 1f\n"                                            \
      "jmp *%r11\n"                                        \
      "1: mov $" #number                                   \
      ", %r11d\n"                                          \
      "jmp libc_bind\n"                                    \
      ".cfi_endproc\n"                                     \
      ".size " #call ", .-" #call "\n.popsection");
LIBC_FUNCTIONS(X)
#undef X

/* The one reference that is left to the loader, for its version: a libc that is too old is refused
 * by the loader, as ever. */
__asm__(".symver libc_newest, " LIBC_NEWEST
        "\n"
        ".pushsection .data.rel.ro.libc_newest,\"awR\",@progbits\n"
        ".balign 8\n"
        ".quad libc_newest\n"
        ".popsection");

#else
#error "the stubs are not written for this architecture yet"
#endif
