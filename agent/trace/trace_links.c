#include "trace_links.h"

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/growing_array.h"

struct thread_key {
  const struct trace_thread *threads;
  int32_t tid;
};

static bool thread_equal(const void *context, uint32_t position) {
  const struct thread_key *key = context;
  return key->threads[position].tid == key->tid;
}

uint32_t trace_links_thread(const struct trace_links *links, int32_t tid) {
  struct thread_key key = {links->threads, tid};
  uint32_t found = index_table_find(&links->index, hash_mix((uint32_t)tid, 0), thread_equal, &key);
  return found == INDEX_TABLE_NONE ? TRACE_LINK_NONE : found;
}

/* The thread, added when it is new; NULL: out of memory. */
static struct trace_thread *thread_of(struct trace_links *links, int32_t tid) {
  uint32_t number = trace_links_thread(links, tid);
  if (number != TRACE_LINK_NONE) return &links->threads[number];
  if (!growing_array_reserve(&links->threads, links->thread_count, &links->thread_capacity,
                             sizeof *links->threads))
    return NULL;
  if (!index_table_add(&links->index, hash_mix((uint32_t)tid, 0), links->thread_count)) return NULL;
  struct trace_thread *thread = &links->threads[links->thread_count++];
  *thread = (struct trace_thread){
      .tid = tid, .state = TRACE_LINK_NONE, .release = TRACE_LINK_NONE, .mark = TRACE_LINK_NONE};
  return thread;
}

static void end_state(struct trace_links *links, struct trace_thread *thread, uint32_t event,
                      bool is_wake) {
  if (thread->state != TRACE_LINK_NONE) links->to[thread->state] = event;
  if (is_wake && thread->release != TRACE_LINK_NONE) links->to[thread->release] = event;
  thread->state = thread->release = TRACE_LINK_NONE;
}

/* Open marks form a chain through `to`, the innermost first. */
static void end_marks(struct trace_links *links, struct trace_thread *thread, uint32_t event) {
  while (thread->mark != TRACE_LINK_NONE) {
    uint32_t outer = links->to[thread->mark];
    links->to[thread->mark] = event;
    thread->mark = outer;
  }
}

static void end_mark(struct trace_links *links, struct trace_thread *thread, uint32_t event) {
  uint32_t begin = thread->mark;
  if (begin == TRACE_LINK_NONE) return;
  thread->mark = links->to[begin];
  links->to[begin] = event;
  links->to[event] = begin;
}

/* Who ended its wait is known best by whom released it last. */
static void add_release(struct trace_links *links, const struct trace_log *log, uint32_t event) {
  uint32_t number = trace_links_thread(links, log->events[event].other);
  if (number == TRACE_LINK_NONE) return;
  struct trace_thread *woken = &links->threads[number];
  if (woken->state == TRACE_LINK_NONE || log->events[woken->state].kind != TRACE_BLOCKED) return;
  woken->release = event;
}

static bool add_event(struct trace_links *links, const struct trace_log *log, uint32_t number) {
  const struct trace_event *event = &log->events[number];
  links->to[number] = TRACE_LINK_NONE;
  if (event->kind == TRACE_COUNTER) return true;
  struct trace_thread *thread = thread_of(links, event->tid);
  if (!thread) return false;
  switch ((enum trace_kind)event->kind) {
    case TRACE_RUNNING:
    case TRACE_RUNNABLE:
    case TRACE_BLOCKED:
      end_state(links, thread, number, event->kind != TRACE_BLOCKED);
      thread->state = number;
      break;
    case TRACE_LOST:
    case TRACE_THREAD_ENDED:
      end_state(links, thread, number, false);
      end_marks(links, thread, number);
      break;
    case TRACE_THREAD_NAMED: thread->name = event->text; break;
    case TRACE_MARK_BEGIN:
      links->to[number] = thread->mark;
      thread->mark = number;
      break;
    case TRACE_MARK_END: end_mark(links, thread, number); break;
    case TRACE_RELEASED: add_release(links, log, number); break;
    default: break;
  }
  return true;
}

bool trace_links_find(struct trace_links *links, const struct trace_log *log) {
  *links = (struct trace_links){0};
  if (log->event_count >= TRACE_LINK_NONE) return false;
  links->to = agent_malloc((log->event_count + 1) * sizeof *links->to);
  if (!links->to) return false;
  for (size_t i = 0; i < log->event_count; i++)
    if (!add_event(links, log, (uint32_t)i)) return false;
  /* What is still open ends with the recording. */
  for (uint32_t i = 0; i < links->thread_count; i++)
    end_marks(links, &links->threads[i], TRACE_LINK_NONE);
  return true;
}

void trace_links_release(struct trace_links *links) {
  index_table_release(&links->index);
  agent_free(links->threads);
  agent_free(links->to);
  *links = (struct trace_links){0};
}
