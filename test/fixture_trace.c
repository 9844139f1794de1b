#include "fixture_trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_budget.h"

extern int64_t agent_memory_fail_after;

#define MUST(condition)                                                       \
  do {                                                                        \
    if (!(condition)) printf("line %d: %s\n", __LINE__, #condition), exit(1); \
  } while (0)

/* ---- made by hand ---- */

enum { PID = 100, MICRO = 1000, START = 5000000 };

static void add(struct fixture_trace *trace, struct trace_event event) {
  MUST(trace->log.event_count < FIXTURE_EVENTS_MAX);
  trace->events[trace->log.event_count++] = event;
}

static void start(struct fixture_trace *trace, const char *program) {
  memset(&trace->log, 0, sizeof trace->log);
  trace->log.program = program;
  trace->log.pid = PID;
  trace->log.start = START;
  trace->log.events = trace->events;
  trace->log.stacks = trace->stacks;
  for (int i = 0; i < FIXTURE_STACKS; i++)
    trace->stacks[i] = (struct trace_stack){.frames = trace->frames[i]};
}

static uint32_t add_stack(struct fixture_trace *trace, const struct trace_frame *frames,
                          uint32_t count) {
  uint32_t number = trace->log.stack_count++;
  memcpy(trace->frames[number], frames, count * sizeof *frames);
  trace->stacks[number].frame_count = count;
  return number + 1;
}

void fixture_trace_hand_made(struct fixture_trace *trace) {
  static const struct trace_frame waits[] = {{0x1010, "futex_wait", "", 0},
                                             {0x2010, "inlined<\"a\">", "/src/in.h", 7},
                                             {0x2010, "inlined<\"a\">", "/src/in.h", 9},
                                             {0x2010, "work", "/src/work.c", 20},
                                             {0x3010, "main", "/src/main.c", 30}};
  static const struct trace_frame unlocks[] = {{0x4010, "unlock", "/src/lock.c", 3},
                                               {0x3020, "main", "/src/main.c", 31}};
  const char *reading = "read: pipe:[1]";
  start(trace, "prog \"x\"\n\xff");
  uint32_t wait = add_stack(trace, waits, 5), unlock = add_stack(trace, unlocks, 2);
#define EVENT(at_micro, tid_, kind_, ...) \
  add(trace,                              \
      (struct trace_event){               \
          .at = START + (int64_t)((at_micro)*MICRO), .tid = tid_, .kind = kind_, ##__VA_ARGS__})
  EVENT(0, 100, TRACE_THREAD_FOUND);
  EVENT(0, 100, TRACE_THREAD_NAMED, .text = "main");
  EVENT(0, 100, TRACE_RUNNING, .cpu = 0);
  EVENT(0, 101, TRACE_THREAD_FOUND);
  EVENT(0, 101, TRACE_BLOCKED, .reason = TRACE_REASON_LOCK, .text = "futex", .stack = wait);
  EVENT(5, 0, TRACE_COUNTER, .text = "heap in use", .value = 4096);
  EVENT(10, 101, TRACE_THREAD_NAMED, .text = "wor\"k\\er\xff\n1");
  EVENT(20, 100, TRACE_MARK_BEGIN, .text = "outer");
  EVENT(30, 100, TRACE_MARK_BEGIN, .text = "inner", .stack = unlock);
  EVENT(40, 100, TRACE_RELEASED, .other = 101, .value = 0x7f00, .stack = unlock);
  EVENT(41, 101, TRACE_RUNNABLE, .other = 100);
  EVENT(45, 101, TRACE_RUNNING, .cpu = 1);
  EVENT(50, 100, TRACE_MARK_END);
  EVENT(55, 100, TRACE_SAMPLE, .stack = unlock);
  EVENT(60, 100, TRACE_BLOCKED, .reason = TRACE_REASON_READ_WRITE, .text = reading, .cpu = 0,
        .stack = wait);
  EVENT(70, 102, TRACE_THREAD_BORN, .other = 101, .stack = wait);
  EVENT(70, 102, TRACE_RUNNABLE);
  EVENT(75, 102, TRACE_RUNNING, .cpu = 0);
  EVENT(80, 101, TRACE_MARK, .text = "instant");
  EVENT(85, 101, TRACE_MARK, .value = 1048576, .stack = wait);
  EVENT(90, 102, TRACE_BLOCKED, .reason = TRACE_REASON_DISK, .text = "D");
  EVENT(100, 102, TRACE_RUNNING, .cpu = 0);
  EVENT(110, 102, TRACE_THREAD_ENDED);
  EVENT(120, 100, TRACE_RUNNING, .cpu = 0);
  EVENT(130, 100, TRACE_MARK_END);
  EVENT(135.5, 100, TRACE_MARK_END); /* its begin is not known */
  EVENT(140, 101, TRACE_LOST, .value = 12);
  EVENT(140, 101, TRACE_BLOCKED, .reason = TRACE_REASON_SLEEP, .text = "sleep");
  EVENT(150, 100, TRACE_RUNNABLE, .cpu = 0);
  EVENT(155, 0, TRACE_COUNTER, .text = "threads", .value = 2);
#undef EVENT
  trace->log.end = START + 200 * MICRO;
  trace->log.lost = 12;
}

/* ---- made by chance ---- */

enum { THREADS_MAX = 24, CPUS_MAX = 4 };
static const char *const texts[] = {"a",
                                    "worker-1",
                                    "\xff\xfe",
                                    "quo\"te\\",
                                    "new\nline",
                                    "\xc3\xa9t\xc3\xa9",
                                    "cut \xc3",
                                    "std::vector<int, alloc<int>>::push_back(int&&)",
                                    "\x1b[31m",
                                    "</script>",
                                    "read: pipe:[1]",
                                    "futex",
                                    "\xed\xa0\x80",
                                    "\xf0\x9f\x98\x80",
                                    "select chan",
                                    "heap in use"};
static char long_text[3000];

struct chance_thread {
  int32_t tid, cpu;
  uint8_t state;
  bool alive;
};

struct chance {
  struct fixture_trace *trace;
  uint64_t state;
  int64_t now;
  struct chance_thread threads[THREADS_MAX];
  int thread_count;
  int on_cpu[CPUS_MAX]; /* thread + 1, where states are recorded */
};

static uint32_t below(struct chance *chance, uint32_t limit) {
  chance->state ^= chance->state << 13;
  chance->state ^= chance->state >> 7;
  chance->state ^= chance->state << 17;
  return (uint32_t)(chance->state >> 33) % limit;
}

static const char *some_text(struct chance *chance) {
  uint32_t which = below(chance, sizeof texts / sizeof *texts + 3);
  if (which < sizeof texts / sizeof *texts) return texts[which];
  return which % 3 == 0 ? "" : which % 3 == 1 ? long_text : NULL;
}

static void make_stacks(struct chance *chance) {
  struct fixture_trace *trace = chance->trace;
  trace->log.stack_count = 1 + below(chance, FIXTURE_STACKS);
  for (uint32_t s = 0; s < trace->log.stack_count; s++) {
    uint32_t count = below(chance, 8) == 0 ? below(chance, FIXTURE_FRAMES_MAX) : below(chance, 12);
    uint64_t pc = 0x400000;
    trace->stacks[s].frame_count = count;
    for (uint32_t f = 0; f < count; f++) {
      const char *name = some_text(chance), *file = some_text(chance);
      if (below(chance, 3) != 0) pc = below(chance, 9) == 0 ? 0 : 0x400000 + below(chance, 4000);
      trace->frames[s][f] =
          (struct trace_frame){pc, name ? name : "f", file ? file : "", below(chance, 3000)};
    }
  }
}

static void put_event(struct chance *chance, int thread, uint8_t kind, struct trace_event event) {
  struct chance_thread *is = &chance->threads[thread];
  event.at = chance->now;
  event.tid = is->tid;
  event.kind = kind;
  if (kind == TRACE_RUNNING || below(chance, 2)) event.cpu = is->cpu;
  else event.cpu = -1;
  if (below(chance, 2)) event.stack = below(chance, chance->trace->log.stack_count + 1);
  add(chance->trace, event);
}

static void leave_cpu(struct chance *chance, int thread) {
  for (int cpu = 0; cpu < CPUS_MAX; cpu++)
    if (chance->on_cpu[cpu] == thread + 1) chance->on_cpu[cpu] = 0;
}

/* Into a state; where states are recorded a CPU runs one thread, who finds none is runnable. */
static void put_state(struct chance *chance, int thread, uint8_t state, int32_t other) {
  struct chance_thread *is = &chance->threads[thread];
  struct trace_event event = {.other = state == TRACE_BLOCKED ? 0 : other};
  leave_cpu(chance, thread);
  if (state == TRACE_RUNNING) {
    int cpu = (int)below(chance, CPUS_MAX);
    if (!chance->trace->log.is_sampled && chance->on_cpu[cpu]) state = TRACE_RUNNABLE;
    else chance->on_cpu[cpu] = thread + 1, is->cpu = cpu;
    if (chance->trace->log.is_sampled && below(chance, 4) == 0) is->cpu = -1;
  }
  if (state == is->state) return;
  if (state == TRACE_BLOCKED) {
    event.reason = (uint8_t)below(chance, TRACE_REASON_DISK + 1);
    event.text = some_text(chance);
  }
  is->state = state;
  put_event(chance, thread, state, event);
}

static int some_thread(struct chance *chance) {
  for (int tries = 0; tries < 100 && chance->thread_count > 0; tries++) {
    int thread = (int)below(chance, (uint32_t)chance->thread_count);
    if (chance->threads[thread].alive) return thread;
  }
  return -1;
}

static int32_t some_tid(struct chance *chance) {
  uint32_t which = below(chance, (uint32_t)chance->thread_count + 2);
  if (which < (uint32_t)chance->thread_count) return chance->threads[which].tid;
  return which == (uint32_t)chance->thread_count ? 0 : 99999;
}

static void put_thread(struct chance *chance, bool found) {
  if (chance->thread_count == THREADS_MAX) return;
  int32_t other = found || chance->thread_count == 0 ? 0 : some_tid(chance);
  int thread = chance->thread_count++;
  chance->threads[thread] = (struct chance_thread){.tid = PID + thread, .cpu = -1, .alive = true};
  put_event(chance, thread, found ? TRACE_THREAD_FOUND : TRACE_THREAD_BORN,
            (struct trace_event){.other = other});
  if (below(chance, 2))
    put_event(chance, thread, TRACE_THREAD_NAMED, (struct trace_event){.text = some_text(chance)});
  put_state(chance, thread, (uint8_t)(TRACE_RUNNING + below(chance, 3)), 0);
}

static void change_state(struct chance *chance, int thread) {
  struct chance_thread *is = &chance->threads[thread];
  int32_t waker = 0;
  if (is->state == TRACE_BLOCKED && below(chance, 2)) {
    int other = some_thread(chance);
    if (other >= 0 && below(chance, 3))
      put_event(chance, other, TRACE_RELEASED,
                (struct trace_event){.other = is->tid, .value = below(chance, 5)});
    if (below(chance, 2)) chance->now += below(chance, 300);
    if (below(chance, 2)) waker = some_tid(chance);
  }
  put_state(chance, thread, (uint8_t)(TRACE_RUNNING + below(chance, 3)), waker);
}

static void lose(struct chance *chance, int thread) {
  uint64_t lost = 1 + below(chance, 100);
  chance->trace->log.lost += lost;
  put_event(chance, thread, TRACE_LOST, (struct trace_event){.value = lost});
  chance->threads[thread].state = 0;
  put_state(chance, thread, (uint8_t)(TRACE_RUNNING + below(chance, 3)), 0);
}

static void step(struct chance *chance) {
  int thread = some_thread(chance);
  uint32_t what = below(chance, 100);
  if (thread < 0 || what < 4) {
    put_thread(chance, what == 0);
  } else if (what < 50) {
    change_state(chance, thread);
  } else if (what < 60) {
    put_event(chance, thread, TRACE_MARK_BEGIN, (struct trace_event){.text = some_text(chance)});
  } else if (what < 70) {
    put_event(chance, thread, TRACE_MARK_END, (struct trace_event){0});
  } else if (what < 75) {
    put_event(chance, thread, TRACE_MARK,
              (struct trace_event){.text = below(chance, 3) ? some_text(chance) : NULL,
                                   .value = below(chance, 3) * (chance->state >> 1)});
  } else if (what < 80) {
    put_event(chance, thread, TRACE_RELEASED,
              (struct trace_event){.other = some_tid(chance), .value = below(chance, 5)});
  } else if (what < 85) {
    put_event(chance, thread, TRACE_SAMPLE,
              (struct trace_event){.value = below(chance, 3) * UINT64_C(10000000)});
  } else if (what < 89) {
    const char *text = some_text(chance);
    add(chance->trace, (struct trace_event){.at = chance->now,
                                            .kind = TRACE_COUNTER,
                                            .cpu = -1,
                                            .text = text,
                                            .value = chance->state});
  } else if (what < 92) {
    put_event(chance, thread, TRACE_THREAD_NAMED, (struct trace_event){.text = some_text(chance)});
  } else if (what < 95) {
    lose(chance, thread);
  } else if (what < 97) {
    leave_cpu(chance, thread);
    chance->threads[thread].alive = false;
    put_event(chance, thread, TRACE_THREAD_ENDED, (struct trace_event){0});
  }
}

void fixture_trace_random(struct fixture_trace *trace, uint64_t seed) {
  struct chance chance = {.trace = trace, .state = (seed + 1) * 0x9e3779b97f4a7c15u, .now = START};
  memset(long_text, 'L', sizeof long_text - 1);
  memcpy(long_text + 1022, "\xc3\xa9", 2); /* where it may have to be cut */
  start(trace, some_text(&chance));
  if (!trace->log.program) trace->log.program = "";
  trace->log.is_sampled = below(&chance, 3) == 0;
  trace->log.period = trace->log.is_sampled ? 10000000 : 0;
  trace->log.sample_hz = below(&chance, 3) * 100;
  if (trace->log.sample_hz && below(&chance, 2)) trace->log.samples_off = "for \"no\" reason";
  make_stacks(&chance);
  uint32_t found = below(&chance, 8);
  uint32_t steps = below(&chance, 10) == 0 ? below(&chance, 1000) : below(&chance, 100);
  for (uint32_t i = 0; i < found; i++) put_thread(&chance, true);
  for (uint32_t i = 0; i < steps; i++) {
    if (below(&chance, 3)) chance.now += below(&chance, 2000);
    step(&chance);
  }
  trace->log.end = chance.now + below(&chance, 5000);
}

/* ---- the test ---- */

struct memory {
  struct byte_sink base;
  uint8_t *bytes;
  size_t size, capacity, limit; /* it is gone after so many */
  bool gone;
};

static bool keep(struct byte_sink *base, const void *bytes, size_t size) {
  struct memory *memory = (struct memory *)base;
  MUST(!memory->gone); /* nobody writes to who is gone */
  memory->gone = memory->size + size > memory->limit;
  if (memory->gone) return false;
  if (memory->size + size > memory->capacity) {
    memory->capacity = (memory->size + size) * 2;
    memory->bytes = realloc(memory->bytes, memory->capacity);
  }
  memcpy(memory->bytes + memory->size, bytes, size);
  memory->size += size;
  return true;
}

static bool encoded(const struct fixture_trace *trace, fixture_trace_encoder *encode,
                    struct memory *memory, size_t limit) {
  *memory = (struct memory){.base = {keep}, .limit = limit};
  return encode(&trace->log, &memory->base);
}

static void check_receivers(const struct fixture_trace *trace, fixture_trace_encoder *encode) {
  struct memory whole, part;
  MUST(encoded(trace, encode, &whole, SIZE_MAX));
  for (size_t limit = 0; limit < whole.size; limit += 1 + whole.size / 7) {
    MUST(!encoded(trace, encode, &part, limit));
    MUST(part.gone);
    free(part.bytes);
  }
  free(whole.bytes);
}

static void check_allocations(const struct fixture_trace *trace, fixture_trace_encoder *encode) {
  struct memory memory;
  bool done = false;
  for (int64_t nth = 0; !done && nth < 1000; nth++) {
    agent_memory_fail_after = nth;
    done = encoded(trace, encode, &memory, SIZE_MAX);
    free(memory.bytes);
  }
  agent_memory_fail_after = INT64_MAX;
  MUST(done);
}

static void print_text(FILE *file, const char *text) {
  for (const char *c = text ? text : ""; *c; c++) fprintf(file, "%02x", (unsigned char)*c);
  fprintf(file, ".");
}

/* One event a line, text in hex; the first line is of the log itself. */
static void print_log(const struct fixture_trace *trace, const char *path) {
  const struct trace_log *log = &trace->log;
  FILE *file = fopen(path, "w");
  MUST(file);
  fprintf(file, "%d %" PRId64 " %" PRId64 " %d %" PRIu64 " %u %d\n", log->pid, log->start, log->end,
          log->is_sampled, log->lost, log->sample_hz, log->samples_off != NULL);
  for (size_t i = 0; i < log->event_count; i++) {
    const struct trace_event *event = &log->events[i];
    uint32_t frames = event->stack != 0 ? log->stacks[event->stack - 1].frame_count : 0;
    fprintf(file, "%d %" PRId64 " %d %d %d %u %d %" PRIu64 " ", event->kind, event->at, event->tid,
            event->other, event->cpu, frames, event->reason, event->value);
    print_text(file, event->text);
    fprintf(file, "\n");
  }
  MUST(fclose(file) == 0);
}

static void write_files(struct fixture_trace *trace, char **words, fixture_trace_encoder *encode) {
  uint64_t seed = strtoull(words[3], NULL, 0);
  for (long i = 0; i < atol(words[2]); i++) {
    char path[512];
    struct memory memory;
    if (i < 2) fixture_trace_hand_made(trace);
    else fixture_trace_random(trace, seed + (uint64_t)i);
    if (i == 1) trace->log.event_count = 0;
    MUST(encoded(trace, encode, &memory, SIZE_MAX));
    snprintf(path, sizeof path, "%s/%ld.out", words[1], i);
    FILE *file = fopen(path, "wb");
    MUST(file && fwrite(memory.bytes, 1, memory.size, file) == memory.size && fclose(file) == 0);
    free(memory.bytes);
    snprintf(path, sizeof path, "%s/%ld.log", words[1], i);
    print_log(trace, path);
  }
}

int fixture_trace_test(int count, char **words, fixture_trace_encoder *encode) {
  struct fixture_trace *trace = calloc(1, sizeof *trace);
  struct memory memory;
  if (count == 4) {
    write_files(trace, words, encode);
    free(trace);
    return 0;
  }
  fixture_trace_hand_made(trace);
  check_receivers(trace, encode);
  check_allocations(trace, encode);
  uint64_t seed = fuzz_seed(1);
  long round = 0;
  fuzz_part(1);
  for (; fuzz_goes_on(round, 400); round++) {
    fixture_trace_random(trace, seed + (uint64_t)round);
    MUST(encoded(trace, encode, &memory, SIZE_MAX));
    free(memory.bytes);
    if (round % 40 == 0) check_receivers(trace, encode), check_allocations(trace, encode);
  }
  printf("%ld recordings\n", round);
  free(trace);
  return 0;
}
