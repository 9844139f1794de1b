#include "remote_unwind.h"

#include <string.h>

#include "shim/stacks/registered_frames.h"
#include "shim/stacks/unwind_rule.h"
#include "agent/runtime/agent_lock.h"
#include "agent/runtime/agent_memory.h"
#include "debug_frames.h"
#include "agent/runtime/first_stack.h"
#include "libunwind/include/libunwind.h"
#include "agent/runtime/memory_reader.h"
#include "unwind_tables.h"

/* libunwind's own, as its UNW_OBJ makes its name: takes an entry apart. */
int _Ux86_64_dwarf_extract_proc_info_from_fde(unw_addr_space_t space, unw_accessors_t *accessors,
                                              unw_word_t *fde, unw_proc_info_t *info,
                                              unw_word_t debug_frame, int need_unwind_info,
                                              int is_debug_frame, void *argument);

_Static_assert((int)UNW_X86_64_RBP == REMOTE_RBP && (int)UNW_X86_64_RSP == REMOTE_RSP &&
                   (int)UNW_X86_64_R15 == REMOTE_R15 && (int)UNW_X86_64_RIP == REMOTE_PC,
               "libunwind numbers them as DWARF does");

enum {
  WORD = sizeof(unw_word_t),
  /* Bytes are read one by one; no real row takes a tenth of this. Tables may lead round in
   * circles. */
  READS_PER_STEP = 100000,
  IMAGES = 64
};

struct remote_unwinder {
  unw_addr_space_t space;
  unw_cursor_t cursor;
  struct remote_frame frame;
  struct remote_registers registers; /* those of the first frame, for what is still in them */
  const struct stack_copy *copy;
  struct memory_reader *stack; /* as of this stack */
  struct memory_reader *tables; /* of objects: the same for many stacks */
  struct debug_frames *debug_frames;
  uint64_t generation; /* of the objects, unwind_rule_generation */
  uint32_t registered; /* registered_frames_generation */
  uintptr_t initial_sp; /* where the first thread's stack began; 0: not known */
  uint32_t reads_left;
  bool unreadable, past_copy; /* met in this step */
  struct {
    uintptr_t start, end;
  } images[IMAGES]; /* objects in which there have been frames */
  unsigned images_next;
};

/* ---- what libunwind asks for ---- */

static bool is_in_image(const struct remote_unwinder *unwinder, uintptr_t address) {
  for (unsigned i = 0; i < IMAGES; i++)
    if (address - unwinder->images[i].start < unwinder->images[i].end - unwinder->images[i].start)
      return true;
  return false;
}

static int access_mem(unw_addr_space_t space, unw_word_t address, unw_word_t *value, int write,
                      void *argument) {
  (void)space;
  struct remote_unwinder *unwinder = argument;
  const struct stack_copy *copy = unwinder->copy;
  if (write || unwinder->reads_left == 0) return -UNW_EINVAL;
  unwinder->reads_left--;
  if (copy && copy->size >= WORD && address - copy->start <= copy->size - WORD) {
    memcpy(value, (const char *)copy->bytes + (address - copy->start), WORD);
    return 0;
  }
  struct memory_reader *reader = unwinder->tables;
  if (!is_in_image(unwinder, address)) {
    if (registered_frames_any() && registered_frames_word(address, value)) return 0;
    reader = unwinder->stack;
    if (copy && !copy->rest_is_as_it_was) {
      unwinder->past_copy = true;
      return -UNW_EINVAL;
    }
  }
  if (memory_reader_word(reader, address, value)) return 0;
  unwinder->unreadable = true;
  return -UNW_EINVAL;
}

static int access_reg(unw_addr_space_t space, unw_regnum_t number, unw_word_t *value, int write,
                      void *argument) {
  (void)space;
  struct remote_unwinder *unwinder = argument;
  struct remote_registers *registers = &unwinder->registers;
  if (number < 0 || number >= REMOTE_REGISTERS) return -UNW_EBADREG;
  if (write) {
    registers->value[number] = *value;
    registers->known |= 1u << number;
    return 0;
  }
  if (!(registers->known >> number & 1)) {
    unwinder->frame.missing = number;
    return -UNW_EBADREG;
  }
  *value = registers->value[number];
  return 0;
}

/* An entry that libunwind made of the wrong function. */
static void put_away(unw_proc_info_t *info) {
  agent_free(info->unwind_info); /* as its mempool_free: scripts/patches/libunwind-alone.patch */
  memset(info, 0, sizeof *info);
}

static void add_image(struct remote_unwinder *unwinder, uintptr_t start, uintptr_t end) {
  unwinder->images[unwinder->images_next].start = start;
  unwinder->images[unwinder->images_next].end = end;
  unwinder->images_next = (unwinder->images_next + 1) % IMAGES;
}

/* Beyond the object's range where the loader does not know all of it: of a program with gaps
 * between its segments. */
static void note_image(struct remote_unwinder *unwinder, const struct unwind_entry *entry) {
  enum { TABLES_MAX = 64 << 20 };
  if (is_in_image(unwinder, entry->fde) && is_in_image(unwinder, entry->header)) return;
  uintptr_t start = entry->object_start, end = entry->object_end;
  if (entry->header - start >= end - start) {
    start = entry->header < start ? entry->header : start;
    end = entry->header + TABLES_MAX > end ? entry->header + TABLES_MAX : end;
  }
  add_image(unwinder, start, end);
}

/* Takes the entry apart and looks whether it covers pc. A common entry has no row. */
static int extract(struct remote_unwinder *unwinder, uintptr_t pc, uintptr_t fde,
                   uintptr_t debug_frame, uint64_t bias, unw_proc_info_t *info) {
  unw_word_t at = fde;
  int result = _Ux86_64_dwarf_extract_proc_info_from_fde(
      unwinder->space, unw_get_accessors(unwinder->space), &at, info, debug_frame, 1,
      debug_frame != 0, unwinder);
  if (result < 0) return result;
  info->start_ip += bias;
  info->end_ip += bias;
  return info->unwind_info && pc >= info->start_ip && pc < info->end_ip ? 0 : -UNW_ENOINFO;
}

static int find_debug_frame(struct remote_unwinder *unwinder, uintptr_t pc, unw_proc_info_t *info) {
  struct debug_frame_entry entry;
  if (!debug_frames_find(unwinder->debug_frames, pc, &entry)) return -UNW_ENOINFO;
  uintptr_t section = (uintptr_t)entry.section;
  if (!is_in_image(unwinder, section)) add_image(unwinder, section, section + entry.size);
  return extract(unwinder, pc, section + entry.offset, section, entry.bias, info);
}

static int find_proc_info(unw_addr_space_t space, unw_word_t pc, unw_proc_info_t *info,
                          int need_unwind_info, void *argument) {
  (void)space, (void)need_unwind_info; /* it is always needed */
  struct remote_unwinder *unwinder = argument;
  struct unwind_entry entry;
  if (unwind_tables_find(unwinder->tables, pc, &entry)) {
    note_image(unwinder, &entry);
    info->gp = entry.header; /* what addresses "relative to data" are relative to */
    int result = extract(unwinder, pc, entry.fde, 0, 0, info);
    if (result != -UNW_ENOINFO) return result;
    put_away(info);
  }
  uintptr_t registered = registered_frames_entry(pc);
  if (registered) return extract(unwinder, pc, registered, 0, 0, info);
  return find_debug_frame(unwinder, pc, info);
}

/* libunwind gives back by itself what find_proc_info allocated. */
static void put_unwind_info(unw_addr_space_t space, unw_proc_info_t *info, void *argument) {
  (void)space, (void)info, (void)argument;
}

static int no_dynamic_info(unw_addr_space_t space, unw_word_t *list, void *argument) {
  (void)space, (void)list, (void)argument;
  return -UNW_ENOINFO;
}

/* ---- the unwinder ---- */

struct remote_unwinder *remote_unwinder_new(void) {
  static struct agent_lock first_call; /* libunwind prepares itself at the first use */
  unw_accessors_t accessors = {.find_proc_info = find_proc_info,
                               .put_unwind_info = put_unwind_info,
                               .get_dyn_info_list_addr = no_dynamic_info,
                               .access_mem = access_mem,
                               .access_reg = access_reg};
  struct remote_unwinder *unwinder = agent_calloc(1, sizeof *unwinder);
  if (!unwinder) return NULL;
  agent_lock_take(&first_call);
  unwinder->space = unw_create_addr_space(&accessors, 0);
  if (unwinder->space) unw_set_caching_policy(unwinder->space, UNW_CACHE_GLOBAL);
  agent_lock_release(&first_call);
  unwinder->stack = memory_reader_new();
  unwinder->tables = memory_reader_new();
  unwinder->debug_frames = debug_frames_new();
  unwinder->initial_sp = first_stack_start();
  unwinder->generation = unwind_rule_generation();
  if (unwinder->space && unwinder->stack && unwinder->tables && unwinder->debug_frames)
    return unwinder;
  remote_unwinder_release(unwinder);
  return NULL;
}

void remote_unwinder_release(struct remote_unwinder *unwinder) {
  if (!unwinder) return;
  if (unwinder->space) unw_destroy_addr_space(unwinder->space);
  memory_reader_release(unwinder->stack);
  memory_reader_release(unwinder->tables);
  debug_frames_release(unwinder->debug_frames);
  agent_free(unwinder);
}

static void forget_objects(struct remote_unwinder *unwinder) {
  unw_flush_cache(unwinder->space, 0, 0);
  memory_reader_forget(unwinder->tables);
  debug_frames_forget(unwinder->debug_frames);
  memset(unwinder->images, 0, sizeof unwinder->images);
}

/* A return address is looked up by the call before it. libunwind takes the pc of a first frame to
 * be exact, so it is told that one. */
static void init_cursor(struct remote_unwinder *unwinder) {
  if (!unwinder->frame.exact) unwinder->registers.value[REMOTE_PC]--;
  /* cannot fail: both registers that it asks for are known */
  unw_init_remote(&unwinder->cursor, unwinder->space, unwinder);
}

void remote_unwind_begin(struct remote_unwinder *unwinder, const struct remote_registers *registers,
                         const struct stack_copy *copy) {
  uint64_t generation = unwind_rule_generation();
  if (generation != unwinder->generation) forget_objects(unwinder);
  unwinder->generation = generation;
  uint32_t registered = registered_frames_generation();
  if (registered != unwinder->registered) unw_flush_cache(unwinder->space, 0, 0);
  unwinder->registered = registered;
  unwinder->registers = *registers;
  unwinder->registers.known |= 1u << REMOTE_PC | 1u << REMOTE_RSP;
  unwinder->copy = copy;
  unwinder->frame = (struct remote_frame){.pc = registers->value[REMOTE_PC],
                                          .sp = registers->value[REMOTE_RSP],
                                          .exact = registers->exact};
  memory_reader_forget(unwinder->stack);
  init_cursor(unwinder);
}

const struct remote_frame *remote_unwind_frame(const struct remote_unwinder *unwinder) {
  return &unwinder->frame;
}

bool remote_unwind_register(struct remote_unwinder *unwinder, int number, uintptr_t *value) {
  unw_word_t word;
  unwinder->reads_left = READS_PER_STEP;
  if (unw_get_reg(&unwinder->cursor, number, &word) < 0) return false;
  *value = word;
  return true;
}

void remote_unwind_set_register(struct remote_unwinder *unwinder, int number, uintptr_t value) {
  unw_set_reg(&unwinder->cursor, number, value);
}

/* A function that is only ever returned into (glibc's __start_context) has its row from its first
 * byte on, not one before. */
static bool nothing_calls(struct remote_unwinder *unwinder) {
  struct remote_registers registers = {.known = 1u << REMOTE_PC | 1u << REMOTE_RSP};
  registers.value[REMOTE_PC] = unwinder->frame.pc;
  registers.value[REMOTE_RSP] = unwinder->frame.sp;
  unw_cursor_t cursor;
  struct remote_registers kept = unwinder->registers;
  unwinder->registers = registers;
  int result = unw_init_remote(&cursor, unwinder->space, unwinder);
  if (result == 0) result = unw_step(&cursor);
  unwinder->registers = kept;
  return result == 0;
}

/* As in shim/stacks/stack_capture.c: _dl_start_user, which runs constructors at the very top of the
 * first stack, has no unwind information. */
static enum remote_step step_without_entry(struct remote_unwinder *unwinder) {
  enum { ENTRY_FRAME_SIZE = 64 };
  uintptr_t initial_sp = unwinder->initial_sp;
  if (initial_sp && initial_sp - unwinder->frame.sp <= ENTRY_FRAME_SIZE) return REMOTE_OUTERMOST;
  if (!unwinder->frame.exact && nothing_calls(unwinder)) return REMOTE_OUTERMOST;
  return REMOTE_NO_UNWIND;
}

static enum remote_step step_that_failed(struct remote_unwinder *unwinder, int error) {
  int missing = unwinder->frame.missing;
  if (error == -UNW_ENOINFO) return step_without_entry(unwinder);
  if (unwinder->past_copy) return REMOTE_PAST_COPY;
  if (error == -UNW_EBADREG && missing >= 0) return REMOTE_NEEDS_REGISTER;
  if (unwinder->unreadable || error == -UNW_EBADFRAME || error == -UNW_EBADREG)
    return REMOTE_NO_MEMORY;
  return REMOTE_NO_UNWIND;
}

enum remote_step remote_unwind_step(struct remote_unwinder *unwinder) {
  struct remote_frame *frame = &unwinder->frame;
  unw_cursor_t before; /* for a step that is to be made again */
  bool all_known = unwinder->registers.known == REMOTE_ALL_KNOWN;
  if (!all_known) memcpy(&before, &unwinder->cursor, sizeof before);
  unwinder->reads_left = READS_PER_STEP;
  unwinder->unreadable = unwinder->past_copy = false;
  frame->missing = -1;
  unw_word_t pc, sp;
  enum remote_step failure;
  int result = unw_step(&unwinder->cursor);
  if (result == 0) {
    failure = REMOTE_OUTERMOST;
  } else if (result < 0) {
    failure = step_that_failed(unwinder, result);
  } else if (unw_get_reg(&unwinder->cursor, UNW_X86_64_RIP, &pc) < 0 ||
             unw_get_reg(&unwinder->cursor, UNW_X86_64_RSP, &sp) < 0) {
    failure = unwinder->past_copy ? REMOTE_PAST_COPY : REMOTE_NO_MEMORY;
  } else {
    /* A signal frame may lead to another stack (sigaltstack), so only calls must go up. */
    bool was_signal_frame = unw_is_signal_frame(&unwinder->cursor) > 0;
    if (was_signal_frame || sp > frame->sp) {
      *frame = (struct remote_frame){.pc = pc, .sp = sp, .exact = was_signal_frame, .missing = -1};
      return REMOTE_CALLER;
    }
    failure = REMOTE_NO_MEMORY;
  }
  if (!all_known) memcpy(&unwinder->cursor, &before, sizeof before);
  return failure;
}

size_t remote_unwind(struct remote_unwinder *unwinder, const struct remote_registers *registers,
                     const struct stack_copy *copy, uint64_t *frames, size_t capacity,
                     enum remote_step *end) {
  const struct remote_frame *frame = &unwinder->frame;
  size_t count = 0;
  remote_unwind_begin(unwinder, registers, copy);
  for (;;) {
    if (count == capacity) {
      *end = REMOTE_DEPTH;
      return count;
    }
    uintptr_t pc = frame->pc;
    frames[count++] = frame->exact ? pc + 1 : pc;
    enum remote_step step = remote_unwind_step(unwinder);
    if (step != REMOTE_CALLER) {
      *end = step == REMOTE_NEEDS_REGISTER ? REMOTE_NO_UNWIND : step;
      return count;
    }
    /* What a signal handler returns to was never called: its pc is exact, and before it lies
     * another function. */
    if (frame->exact) frames[count - 1] = pc + 1;
  }
}
