#include "live_groups.h"

#include <string.h>
#include <unistd.h>

#include "shim/allocation/live_table.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/growing_array.h"
#include "agent/runtime/agent_status.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/foreign_text.h"
#include "agent/runtime/index_table.h"
#include "agent/runtime/process_info.h"
#include "agent/runtime/task_files.h"
#include "number_order.h"

enum { TOLD_APART_MAX = 1 << 20, SECOND = 1000000000 };

struct gathering {
  struct live_groups *groups;
  struct index_table index;
  const struct live_selection *selection;
  int64_t forked; /* blocks that were born before are of the parent's threads; else 0 */
  int32_t pid;
};

static int32_t age_class(int64_t age) {
  int64_t seconds = age / SECOND;
  return seconds > 0 ? (int32_t)(INT64_C(1) << (63 - __builtin_clzll((uint64_t)seconds))) : 0;
}

/* Which group a block belongs to. */
static struct live_group group_of(const struct gathering *gathering,
                                  const struct live_block *block) {
  const struct live_selection *selection = gathering->selection;
  struct live_group group = {.bucket = block->bucket, .age_seconds = -1};
  if (selection->by_age) group.age_seconds = age_class(selection->aged_at - (int64_t)block->birth);
  if (selection->by_thread && (int64_t)block->birth >= gathering->forked)
    group.tid = block->tid == LIVE_FIRST_THREAD ? gathering->pid : block->tid;
  return group;
}

struct wanted {
  const struct live_groups *groups;
  struct live_group group;
};

static bool is_wanted(const void *context, uint32_t position) {
  const struct wanted *wanted = context;
  const struct live_group *group = &wanted->groups->items[position];
  return group->bucket == wanted->group.bucket && group->tid == wanted->group.tid &&
         group->age_seconds == wanted->group.age_seconds;
}

static uint64_t hash_of(const struct live_group *group) {
  return hash_mix((uint64_t)group->bucket << 32 | (uint32_t)group->tid,
                  (uint32_t)group->age_seconds);
}

static bool count_block(struct gathering *gathering, const struct live_block *block) {
  struct live_groups *groups = gathering->groups;
  struct wanted wanted = {groups, group_of(gathering, block)};
  uint64_t hash = hash_of(&wanted.group);
  uint32_t found = index_table_find(&gathering->index, hash, is_wanted, &wanted);
  if (found == INDEX_TABLE_NONE && groups->count >= TOLD_APART_MAX &&
      (wanted.group.tid || wanted.group.age_seconds >= 0)) {
    groups->without_labels++;
    wanted.group = (struct live_group){.bucket = block->bucket, .age_seconds = -1};
    hash = hash_of(&wanted.group);
    found = index_table_find(&gathering->index, hash, is_wanted, &wanted);
  }
  if (found == INDEX_TABLE_NONE) {
    found = groups->count;
    if (!growing_array_reserve(&groups->items, found, &groups->capacity, sizeof *groups->items) ||
        !index_table_add(&gathering->index, hash, found))
      return false;
    groups->items[found] = wanted.group;
    groups->count++;
  }
  groups->items[found].count++;
  return true;
}

static bool is_above(const void *things, uint32_t a, uint32_t b) {
  const struct live_group *groups = things;
  return groups[b].bucket < groups[a].bucket;
}

static bool put_in_order(struct live_groups *groups) {
  uint32_t *order = agent_malloc((groups->count + (size_t)1) * sizeof *order);
  struct live_group *items = agent_malloc((groups->count + (size_t)1) * sizeof *items);
  bool ok = order && items;
  for (uint32_t i = 0; ok && i < groups->count; i++) order[i] = i;
  ok = ok && number_order_sort(order, groups->count, is_above, groups->items);
  for (uint32_t i = 0; ok && i < groups->count; i++) items[i] = groups->items[order[i]];
  agent_free(order);
  agent_free(ok ? groups->items : items);
  if (ok) groups->items = items;
  return ok;
}

struct live_groups *live_groups_take(const struct live_selection *selection) {
  struct gathering gathering = {.groups = agent_calloc(1, sizeof *gathering.groups),
                                .selection = selection};
  if (!gathering.groups) return NULL;
  struct process_identity process;
  process_identity_read(&process);
  gathering.pid = process.pid;
  if (agent_status_was_forked())
    gathering.forked = process.uptime_seconds < 0 ? INT64_MAX
                                                  : agent_monotonic_nanoseconds() -
                                                        (int64_t)(process.uptime_seconds * 1e9);
  struct live_cursor cursor = {0};
  struct live_block block;
  bool ok = true;
  while (ok && live_table_next(&cursor, &block))
    if ((int64_t)block.birth >= selection->born_from &&
        (int64_t)block.birth < selection->born_until)
      ok = count_block(&gathering, &block);
  index_table_release(&gathering.index);
  if (ok && put_in_order(gathering.groups)) return gathering.groups;
  live_groups_release(gathering.groups);
  return NULL;
}

void live_groups_release(struct live_groups *groups) {
  if (groups) agent_free(groups->items);
  agent_free(groups);
}

void live_thread_name(int32_t tid, char name[LIVE_THREAD_NAME_MAX]) {
  name[0] = 0;
  int task = task_open(tid);
  if (task < 0) return;
  task_read_name(task, name, LIVE_THREAD_NAME_MAX);
  close(task);
  foreign_text_clean(name);
}
