#include "cpu_sample_table.h"

#include <string.h>

#include "shim/stacks/stack_table.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/foreign_text.h"

struct cpu_stack {
  uint32_t epoch, frame_count, first_frame;
};

struct cpu_thread_stack {
  uint32_t stack;
  int32_t tid;
  char name[SAMPLE_NAME_SIZE];
  uint64_t ticks, nanoseconds;
};

/* items, with room for `more` behind `count`, perhaps moved; NULL: out of memory, or the table
 * would outgrow its bound. */
static void *reserve(const struct cpu_sample_table *table, void *items, uint32_t count,
                     uint32_t *capacity, uint32_t more, size_t size) {
  if (more <= *capacity - count) return items;
  uint32_t wanted = *capacity ? *capacity * 2 : 256;
  while (wanted - count < more) wanted *= 2; /* a stack may have a thousand frames */
  size_t now = table->stack_capacity * sizeof *table->stacks +
               table->entry_capacity * sizeof *table->entries +
               table->frame_capacity * sizeof *table->frames;
  if (now + (wanted - *capacity) * size > CPU_SAMPLE_TABLE_BYTES) return NULL;
  void *grown = agent_realloc(items, wanted * size);
  if (grown) *capacity = wanted;
  return grown;
}

struct stack_key {
  const struct cpu_sample_table *table;
  const struct stack_sample *sample;
};

static bool stack_equal(const void *context, uint32_t position) {
  const struct stack_key *key = context;
  const struct cpu_stack *stack = &key->table->stacks[position];
  return stack->frame_count == key->sample->frame_count && stack->epoch == key->sample->epoch &&
         memcmp(key->table->frames + stack->first_frame, key->sample->frames,
                stack->frame_count * sizeof *key->table->frames) == 0;
}

static uint32_t stack_of(struct cpu_sample_table *table, const struct stack_sample *sample) {
  struct stack_key key = {table, sample};
  uint64_t hash = hash_mix(hash_bytes(sample->frames, sample->frame_count * sizeof *sample->frames),
                           sample->epoch);
  uint32_t found = index_table_find(&table->stack_index, hash, stack_equal, &key),
           position = table->stack_count;
  if (found != INDEX_TABLE_NONE) return found;
  struct cpu_stack *stacks =
      reserve(table, table->stacks, position, &table->stack_capacity, 1, sizeof *stacks);
  if (!stacks) return INDEX_TABLE_NONE;
  table->stacks = stacks;
  uint64_t *frames = reserve(table, table->frames, table->frame_count, &table->frame_capacity,
                             sample->frame_count, sizeof *frames);
  if (!frames) return INDEX_TABLE_NONE;
  table->frames = frames;
  if (!index_table_add(&table->stack_index, hash, position)) return INDEX_TABLE_NONE;
  table->stacks[table->stack_count++] =
      (struct cpu_stack){sample->epoch, sample->frame_count, table->frame_count};
  memcpy(table->frames + table->frame_count, sample->frames,
         sample->frame_count * sizeof *sample->frames);
  table->frame_count += sample->frame_count;
  return position;
}

struct entry_key {
  const struct cpu_sample_table *table;
  uint32_t stack;
  int32_t tid;
  const char *name;
};

static bool entry_equal(const void *context, uint32_t position) {
  const struct entry_key *key = context;
  const struct cpu_thread_stack *entry = &key->table->entries[position];
  return entry->stack == key->stack && entry->tid == key->tid &&
         memcmp(entry->name, key->name, SAMPLE_NAME_SIZE) == 0;
}

static struct cpu_thread_stack *entry_of(struct cpu_sample_table *table, uint32_t stack,
                                         int32_t tid, const char *name) {
  struct entry_key key = {table, stack, tid, name};
  uint64_t hash = hash_mix(hash_mix(stack, (uint32_t)tid), hash_bytes(name, SAMPLE_NAME_SIZE));
  uint32_t found = index_table_find(&table->entry_index, hash, entry_equal, &key),
           position = table->entry_count;
  if (found != INDEX_TABLE_NONE) return &table->entries[found];
  struct cpu_thread_stack *entries =
      reserve(table, table->entries, position, &table->entry_capacity, 1, sizeof *entries);
  if (!entries) return NULL;
  table->entries = entries;
  if (!index_table_add(&table->entry_index, hash, position)) return NULL;
  struct cpu_thread_stack *entry = &table->entries[table->entry_count++];
  *entry = (struct cpu_thread_stack){.stack = stack, .tid = tid};
  memcpy(entry->name, name, SAMPLE_NAME_SIZE);
  return entry;
}

void cpu_sample_table_add(struct cpu_sample_table *table, const struct stack_sample *sample) {
  char name[SAMPLE_NAME_SIZE] = {
      0}; /* nothing behind the NUL: it is hashed and compared as a whole */
  for (int i = 0; i < SAMPLE_NAME_SIZE - 1 && sample->name[i]; i++) name[i] = sample->name[i];
  foreign_text_clean(name);
  bool is_one = sample->frame_count > 0 && sample->frame_count <= stack_depth() + 1;
  uint32_t stack = is_one ? stack_of(table, sample) : INDEX_TABLE_NONE;
  struct cpu_thread_stack *entry =
      stack == INDEX_TABLE_NONE ? NULL : entry_of(table, stack, sample->tid, name);
  if (!entry) {
    table->lost++;
    return;
  }
  entry->ticks += sample->ticks;
  entry->nanoseconds += sample->nanoseconds;
  table->ticks += sample->ticks;
  table->nanoseconds += sample->nanoseconds;
}

bool cpu_sample_table_build(const struct cpu_sample_table *table, struct profile_builder *builder) {
  for (uint32_t i = 0; i < table->entry_count; i++) {
    const struct cpu_thread_stack *entry = &table->entries[i];
    const struct cpu_stack *found = &table->stacks[entry->stack];
    const struct profile_stack stack = {.frame_count = found->frame_count,
                                        .epoch = found->epoch,
                                        .frames = table->frames + found->first_frame};
    const struct profile_label labels[] = {{.key = "tid", .number = entry->tid},
                                           {.key = "thread_name", .text = entry->name}};
    const double values[] = {(double)entry->ticks, (double)entry->nanoseconds};
    if (!profile_builder_add(builder, &stack, labels, *entry->name ? 2 : 1, values)) return false;
  }
  return true;
}

void cpu_sample_table_release(struct cpu_sample_table *table) {
  index_table_release(&table->stack_index);
  index_table_release(&table->entry_index);
  agent_free(table->stacks);
  agent_free(table->entries);
  agent_free(table->frames);
  *table = (struct cpu_sample_table){0};
}
