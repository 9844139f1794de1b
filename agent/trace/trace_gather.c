#include "trace_gather.h"

#include <string.h>

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/growing_array.h"

void *trace_growing_add(struct trace_growing *array, size_t item_size) {
  if (!growing_array_reserve(&array->items, array->count, &array->capacity, item_size)) return NULL;
  return memset((char *)array->items + (size_t)array->count++ * item_size, 0, item_size);
}

void trace_gather_start(struct trace_gather *gather, size_t bytes_max) {
  *gather = (struct trace_gather){.bytes_max = bytes_max};
}

void trace_gather_free(struct trace_gather *gather) {
  char **texts = gather->texts.items;
  struct trace_taken_stack *stacks = gather->stacks.items;
  for (uint32_t i = 0; i < gather->texts.count; i++) agent_free(texts[i]);
  for (uint32_t i = 0; i < gather->stacks.count; i++)
    agent_free((void *)(uintptr_t)stacks[i].frames);
  agent_free(gather->texts.items);
  agent_free(gather->stacks.items);
  agent_free(gather->events.items);
  agent_free(gather->waits.items);
  agent_free(gather->releases.items);
  index_table_release(&gather->text_index);
  index_table_release(&gather->stack_index);
}

/* ---- texts ---- */

struct text_key {
  char *const *texts;
  const char *text;
};

static bool text_equal(const void *context, uint32_t position) {
  const struct text_key *key = context;
  return strcmp(key->texts[position], key->text) == 0;
}

/* NULL: no memory. */
static const char *keep_text(struct trace_gather *gather, const char *text) {
  struct text_key key = {gather->texts.items, text};
  size_t size = strlen(text) + 1;
  uint64_t hash = hash_bytes(text, size);
  uint32_t found = index_table_find(&gather->text_index, hash, text_equal, &key);
  if (found != INDEX_TABLE_NONE) return key.texts[found];
  char *copy = agent_strdup(text);
  char **place = copy ? trace_growing_add(&gather->texts, sizeof copy) : NULL;
  if (!place) {
    agent_free(copy);
    return NULL;
  }
  *place = copy;
  gather->bytes += size + sizeof copy;
  return index_table_add(&gather->text_index, hash, gather->texts.count - 1) ? copy : NULL;
}

/* ---- stacks ---- */

struct stack_key {
  const struct trace_taken_stack *stacks, *stack;
};

static bool stack_equal(const void *context, uint32_t position) {
  const struct stack_key *key = context;
  const struct trace_taken_stack *known = &key->stacks[position], *stack = key->stack;
  return known->frame_count == stack->frame_count && known->epoch == stack->epoch &&
         memcmp(known->frames, stack->frames, stack->frame_count * sizeof *stack->frames) == 0;
}

/* Its index + 1; 0: no memory. */
static uint32_t keep_stack(struct trace_gather *gather, const struct trace_taken_stack *stack) {
  struct stack_key key = {gather->stacks.items, stack};
  size_t size = stack->frame_count * sizeof *stack->frames;
  uint64_t hash = hash_mix(hash_bytes(stack->frames, size), stack->epoch);
  uint32_t found = index_table_find(&gather->stack_index, hash, stack_equal, &key);
  if (found != INDEX_TABLE_NONE) return found + 1;
  uint64_t *frames = agent_malloc(size);
  struct trace_taken_stack *place =
      frames ? trace_growing_add(&gather->stacks, sizeof *place) : NULL;
  if (!place) {
    agent_free(frames);
    return 0;
  }
  memcpy(frames, stack->frames, size);
  *place = (struct trace_taken_stack){stack->frame_count, stack->epoch, frames};
  gather->bytes += size + sizeof *place;
  return index_table_add(&gather->stack_index, hash, gather->stacks.count - 1)
             ? gather->stacks.count
             : 0;
}

/* ---- events ---- */

static void leave_out(struct trace_gather *gather, int64_t at) {
  gather->left_out++;
  if (!gather->full_at || at < gather->full_at) gather->full_at = at;
}

/* NULL: there is no room. */
static void *add_item(struct trace_gather *gather, struct trace_growing *array, size_t item_size,
                      int64_t at) {
  void *place = NULL;
  if (gather->bytes <= gather->bytes_max) place = trace_growing_add(array, item_size);
  if (place) gather->bytes += item_size;
  else leave_out(gather, at);
  return place;
}

static uint32_t stack_number(struct trace_gather *gather, const struct trace_taken_stack *stack) {
  return stack && stack->frame_count ? keep_stack(gather, stack) : 0;
}

void trace_gather_event(struct trace_gather *gather, const struct trace_event *event,
                        const struct trace_taken_stack *stack) {
  struct trace_event *place = add_item(gather, &gather->events, sizeof *place, event->at);
  if (!place) return;
  *place = *event;
  place->text = event->text ? keep_text(gather, event->text) : NULL;
  place->stack = stack_number(gather, stack);
}

void trace_gather_wait(struct trace_gather *gather, const struct trace_wait *wait,
                       const struct trace_taken_stack *stack) {
  struct trace_wait *place = add_item(gather, &gather->waits, sizeof *place, wait->end);
  if (!place) return;
  *place = *wait;
  place->stack = stack_number(gather, stack);
}

void trace_gather_lock_release(struct trace_gather *gather, const struct trace_release *release,
                               const struct trace_taken_stack *stack) {
  struct trace_release *place = add_item(gather, &gather->releases, sizeof *place, release->at);
  if (!place) return;
  *place = *release;
  place->stack = stack_number(gather, stack);
}

/* ---- a copy ---- */

static bool copy_items(struct trace_growing *array, const struct trace_growing *from,
                       size_t item_size) {
  size_t size = (from->count + (size_t)1) * item_size;
  array->items = agent_malloc(size);
  if (!array->items) return false;
  array->count = from->count;
  array->capacity = from->count + 1;
  if (from->count) memcpy(array->items, from->items, from->count * item_size);
  return true;
}

bool trace_gather_copy(struct trace_gather *gather, const struct trace_gather *from) {
  const struct trace_taken_stack *stacks = from->stacks.items;
  gather->left_out = from->left_out;
  gather->full_at = from->full_at;
  for (uint32_t i = 0; i < from->stacks.count; i++) /* in their order: numbers stay */
    if (keep_stack(gather, &stacks[i]) != i + 1) return false;
  if (!copy_items(&gather->events, &from->events, sizeof(struct trace_event)) ||
      !copy_items(&gather->waits, &from->waits, sizeof(struct trace_wait)) ||
      !copy_items(&gather->releases, &from->releases, sizeof(struct trace_release)))
    return false;
  struct trace_event *events = gather->events.items;
  for (uint32_t i = 0; i < gather->events.count; i++)
    if (events[i].text && !(events[i].text = keep_text(gather, events[i].text))) return false;
  return true;
}
