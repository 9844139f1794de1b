/* What this process says of itself for the list of those that share the port (process_tree.h). */
#include "process_entry.h"

#include <string.h>
#include <unistd.h>

#include "shim/allocation/heap_status.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "agent/profiles/heap_profile.h"
#include "agent/runtime/process_info.h"
#include "agent/runtime/foreign_text.h"

_Static_assert((int)PROCESS_NAME_MAX == (int)PROCESS_COMM_MAX, "a name is copied whole");

/* Makes room for "..." at the end without cutting a character in two. */
static void mark_as_cut(char text[PROCESS_COMMAND_MAX]) {
  static const char mark[] = "...";
  size_t at = 0;
  for (;;) {
    size_t length = utf8_sequence(text + at), next = at + (length ? length : 1);
    if (next > PROCESS_COMMAND_MAX - sizeof mark) break;
    at = next;
  }
  memcpy(text + at, mark, sizeof mark);
}

static void read_command(char out[PROCESS_COMMAND_MAX]) {
  size_t size;
  char *text = process_command_line(&size);
  if (!text) return;
  while (size > 0 && text[size - 1] == 0) size--; /* a last argument that is empty */
  bool cut = size >= PROCESS_COMMAND_MAX;
  if (cut) size = PROCESS_COMMAND_MAX - 1;
  for (size_t i = 0; i < size; i++) out[i] = text[i] ? text[i] : ' ';
  out[size] = 0;
  if (cut) mark_as_cut(out);
  agent_free(text);
}

/* The program's own. The agent's come and go while this is read: until the two numbers are of one
 * time. */
static uint32_t count_threads(struct process_identity *process) {
  unsigned own = agent_thread_count();
  for (int tries = 0; tries < 4; tries++) {
    process_identity_read(process);
    unsigned now = agent_thread_count();
    if (now == own) break;
    own = now;
  }
  return process->threads > own ? process->threads - own : 0;
}

void process_entry_read(struct process_entry *out) {
  struct process_identity process;
  struct heap_totals heap;
  memset(out, 0, sizeof *out);
  out->threads = count_threads(&process);
  out->pid = process.pid;
  out->parent = process.parent;
  out->uid = geteuid();
  out->uptime_seconds = process.uptime_seconds;
  out->answered = true;
  memcpy(out->name, process.comm, sizeof out->name);
  read_command(out->command);
  out->heap_bytes = -1;
  if (heap_off_reason()) return;
  heap_totals_read(&heap);
  out->heap_bytes = heap.inuse_bytes > 0 ? heap.inuse_bytes : 0;
}
