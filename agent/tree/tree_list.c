/* The list of the processes that share the port (process_tree.h), asked of each anew. */
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "process_tree.h"
#include "tree_members.h"

enum { LIST_MILLISECONDS = 250 };

static bool all_have_answered(uint32_t round) {
  bool all = true;
  agent_lock_take(&tree_members.lock);
  for (unsigned i = 0; i < tree_members.count; i++)
    all = all && (!tree_members.at[i]->joined || (int32_t)(tree_members.at[i]->round - round) >= 0);
  agent_lock_release(&tree_members.lock);
  return all;
}

static void ask_all(uint32_t round) {
  struct tree_message question = {.round = round};
  agent_lock_take(&tree_members.lock);
  for (unsigned i = 0; i < tree_members.count; i++)
    if (tree_members.at[i]->joined)
      tree_message_send(tree_members.at[i]->descriptor, TREE_ENTRY_WANTED, &question, -1);
  agent_lock_release(&tree_members.lock);
}

static void sort_by_pid(struct process_entry *entries, size_t count) {
  for (size_t i = 1; i < count; i++) { /* a thousand at most, mostly in order */
    struct process_entry one = entries[i];
    size_t at = i;
    for (; at > 0 && entries[at - 1].pid > one.pid; at--) entries[at] = entries[at - 1];
    entries[at] = one;
  }
}

struct process_entry *process_tree_list(size_t *count) {
  uint32_t round = tree_members_next_round();
  int64_t deadline = agent_monotonic_nanoseconds() + LIST_MILLISECONDS * INT64_C(1000000);
  ask_all(round);
  for (;;) {
    uint32_t before = tree_members_answers();
    int64_t left = deadline - agent_monotonic_nanoseconds();
    if (left <= 0 || all_have_answered(round)) break;
    tree_members_await_answer(before, left);
  }
  struct process_entry *entries = agent_calloc(PROCESS_TREE_MAX + 1, sizeof *entries);
  if (!entries) return NULL;
  process_entry_read(&entries[0]);
  entries[0].is_holder = process_tree_role() == TREE_HOLDER;
  *count = 1;
  agent_lock_take(&tree_members.lock);
  for (unsigned i = 0; i < tree_members.count; i++) {
    const struct member *member = tree_members.at[i];
    if (!member->joined) continue;
    bool answered = (int32_t)(member->round - round) >= 0;
    entries[(*count)++] =
        answered ? member->entry
                 : (struct process_entry){.pid = member->pid, .uid = member->uid, .heap_bytes = -1};
  }
  agent_lock_release(&tree_members.lock);
  sort_by_pid(entries, *count);
  return entries;
}
