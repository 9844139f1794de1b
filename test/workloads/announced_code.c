/* flags: -O1 -fno-optimize-sibling-calls -rdynamic
 * Code made at run time that is announced to debuggers as LLVM, php and qemu do it: in-memory ELF
 * objects in a list that begins at __jit_debug_descriptor.
 *
 *   announced_code walk [exec]   allocates and computes there (exec: the object is not
 *                                relocatable); at each line it goes on to blocks of another size:
 *                                after the second the code has another name, after the third none
 *   announced_code churn         threads that announce and withdraw, and others that run in it
 *   announced_code hostile       lists and objects that lie */
#define _GNU_SOURCE
#include <elf.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "made_code.h"

/* ---- the interface, as gdb documents it ---- */

struct jit_code_entry {
  struct jit_code_entry *next, *previous;
  const void *object;
  uint64_t size;
};
struct {
  uint32_t version, action;
  struct jit_code_entry *relevant, *first;
} __jit_debug_descriptor = {1, 0, NULL, NULL};
__attribute__((noinline)) void __jit_debug_register_code(void) { __asm__ volatile(""); }

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct jit_code_entry *announce(const void *object, uint64_t size) {
  struct jit_code_entry *entry = calloc(1, sizeof *entry);
  pthread_mutex_lock(&lock);
  *entry = (struct jit_code_entry){__jit_debug_descriptor.first, NULL, object, size};
  if (entry->next) entry->next->previous = entry;
  __jit_debug_descriptor.first = __jit_debug_descriptor.relevant = entry;
  __jit_debug_descriptor.action = 1;
  __jit_debug_register_code();
  pthread_mutex_unlock(&lock);
  return entry;
}

static void withdraw(struct jit_code_entry *entry) {
  pthread_mutex_lock(&lock);
  if (entry->previous) entry->previous->next = entry->next;
  else __jit_debug_descriptor.first = entry->next;
  if (entry->next) entry->next->previous = entry->previous;
  __jit_debug_descriptor.relevant = entry;
  __jit_debug_descriptor.action = 2;
  __jit_debug_register_code();
  pthread_mutex_unlock(&lock);
  memset((void *)(uintptr_t)entry->object, 0xff, entry->size);
  free((void *)(uintptr_t)entry->object);
  memset(entry, 0xff, sizeof *entry);
  free(entry);
}

/* ---- an object ---- */

enum { TEXT = 1, FRAMES, SYMBOLS, STRINGS, SECTIONS };

struct object {
  Elf64_Ehdr header;
  Elf64_Shdr sections[SECTIONS];
  Elf64_Sym symbols[2];
  uint8_t frames[256];
  char strings[128];
};

static const char section_names[] = "\0.text\0.eh_frame\0.symtab\0.strtab";
enum { NAME_OF_FRAMES = 7, NAMES_SIZE = sizeof section_names };

/* Of the code that make() has made, under that name. */
static struct jit_code_entry *announce_made(uint8_t *made, const char *name, int relocatable) {
  struct object *object = calloc(1, sizeof *object);
  object->header = (Elf64_Ehdr){.e_type = relocatable ? ET_REL : ET_EXEC,
                                .e_machine = EM_X86_64,
                                .e_shoff = offsetof(struct object, sections),
                                .e_shentsize = sizeof(Elf64_Shdr),
                                .e_shnum = SECTIONS,
                                .e_shstrndx = STRINGS};
  memcpy(object->header.e_ident, ELFMAG, SELFMAG);
  object->header.e_ident[EI_CLASS] = ELFCLASS64;
  /* fields without names: side by side */
  /* clang-format off */
  object->sections[TEXT] = (Elf64_Shdr){1, SHT_NOBITS, SHF_ALLOC | SHF_EXECINSTR, (uintptr_t)made,
                                        0, sizeof code, 0, 0, 1, 0};
  object->sections[FRAMES] = (Elf64_Shdr){
      NAME_OF_FRAMES, SHT_PROGBITS, SHF_ALLOC, (uintptr_t)made + PAGE,
      offsetof(struct object, frames), make_table(made + PAGE, made, sizeof code), 0, 0, 1, 0};
  memcpy(object->frames, made + PAGE, sizeof object->frames);
  object->sections[SYMBOLS] =
      (Elf64_Shdr){0, SHT_SYMTAB, 0, 0, offsetof(struct object, symbols), sizeof object->symbols,
                   STRINGS, 1, 1, sizeof(Elf64_Sym)};
  object->sections[STRINGS] = (Elf64_Shdr){0, SHT_STRTAB, 0, 0, offsetof(struct object, strings),
                                           sizeof object->strings, 0, 0, 1, 0};
  memcpy(object->strings, section_names, NAMES_SIZE);
  strcpy(object->strings + NAMES_SIZE, name);
  object->symbols[1] = (Elf64_Sym){NAMES_SIZE, ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), 0, TEXT,
                                   relocatable ? 0 : (uintptr_t)made, sizeof code};
  /* clang-format on */
  return announce(object, sizeof *object);
}

/* ---- walk ---- */

static size_t block = 5000;

static FRAME void called_back(void) {
  free(keep(malloc(block)));
  __asm__ volatile("");
}

static FRAME void through_made(made_function *made) {
  made(called_back);
  __asm__ volatile("");
}

static FRAME void run(made_function *made) {
  while (!line_waits()) through_made(made);
  CHECK(wait_for_line());
  block += 1000;
  __asm__ volatile("");
}

static void walk(int relocatable) {
  uint8_t *made = make();
  struct jit_code_entry *entry = announce_made(made, "first_name", relocatable);
  memset(made + PAGE, 0xff, PAGE);
  ready();
  run((made_function *)made);
  say("ready\n");
  run((made_function *)made);
  withdraw(entry);
  entry = announce_made(made, "_ZN4made6secondEv", relocatable);
  say("ready\n");
  run((made_function *)made);
  withdraw(entry);
  say("ready\n");
  run((made_function *)made);
}

/* ---- churn ---- */

static _Atomic int ends;
static _Atomic long count;

static void *announce_and_withdraw(void *unused) {
  enum { AT_ONCE = 24 };
  (void)unused;
  while (!atomic_load(&ends)) {
    uint8_t *made[AT_ONCE];
    struct jit_code_entry *entries[AT_ONCE];
    for (int i = 0; i < AT_ONCE; i++) {
      made[i] = make();
      entries[i] = announce_made(made[i], "of_the_moment", i % 2);
      through_made((made_function *)made[i]);
    }
    for (int i = 0; i < AT_ONCE; i++) {
      withdraw(entries[i]);
      unmake(made[i]);
    }
    atomic_fetch_add(&count, AT_ONCE);
  }
  return NULL;
}

static void churn(void) {
  enum { THREADS = 2 };
  pthread_t threads[THREADS];
  uint8_t *made = make();
  announce_made(made, "first_name", 1);
  for (int i = 0; i < THREADS; i++)
    CHECK(pthread_create(&threads[i], NULL, announce_and_withdraw, NULL) == 0);
  ready();
  run((made_function *)made);
  atomic_store(&ends, 1);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  say("%ld announced\nready\n", atomic_load(&count));
  run((made_function *)made);
}

/* ---- hostile ---- */

static uint64_t state = 88172645463325252ull;
static uint8_t chance(void) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (uint8_t)(state >> 32);
}

static void hostile(void) {
  static const uint64_t sizes[] = {0, 64, 1ull << 29, 1ull << 40, UINT64_MAX};
  uint8_t *made = make();
  for (int i = 0; i < 300; i++) {
    struct jit_code_entry *entry = announce_made(made, "a_name", i % 2);
    uint8_t *object = (uint8_t *)(uintptr_t)entry->object;
    for (int j = chance() % 8; j >= 0; j--)
      object[(chance() << 8 | chance()) % sizeof(struct object)] = chance();
    if (i % 10 == 0) entry->size = sizes[i / 10 % 5];
    if (i % 25 == 0) entry->object = (const void *)(uintptr_t)(i * 1000003ull);
  }
  announce_made(made, "first_name", 1);
  struct jit_code_entry *last = __jit_debug_descriptor.first;
  while (last->next) last = last->next;
  last->next = __jit_debug_descriptor.first->next; /* round and round */
  ready();
  run((made_function *)made);
  last->next = (struct jit_code_entry *)8;
  say("ready\n");
  run((made_function *)made);
}

int main(int argc, char **argv) {
  CHECK(argc > 1);
  if (strcmp(argv[1], "walk") == 0) walk(argc == 2);
  else if (strcmp(argv[1], "churn") == 0) churn();
  else hostile();
  ready();
  return 0;
}
