/* links: test/agent_memory_libc.c */
/* dumps.h: a program that ends is held up for a while at most, once, and keeps its errno; what it
 * has asked for is written by the thread that there is, or by the admin thread. */
#include "agent/dump/dumps.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/dump/dump_cpu.h"
#include "agent/dump/dump_status.h"
#include "agent/dump/dump_watch.h"
#include "agent/dump/dump_writer.h"
#include "agent/runtime/agent_thread.h"
#include "check.h"
#include "shim/base/counters.h"
#include "shim/base/dump_config.h"

struct shim_counters shim_counters;
static int woken;
static _Atomic int written, last;
static void wake(void) { woken++; }

void dump_write_profiles(uint32_t kinds, bool (*wanted)(void)) {
  CHECK(wanted() && kinds == 1u << DUMP_HEAP);
  atomic_fetch_add(&written, 1);
}

/* Names take for ever. */
static bool is_stuck;
void dump_write_in_haste(bool is_last, void (*tell_written)(void), bool (*has_time)(void)) {
  CHECK(is_last);
  atomic_fetch_add(&last, 1);
  tell_written();
  while (is_stuck || has_time()) usleep(1000);
}

enum dump_found dump_watch_look(int64_t now, int64_t *next_ns) {
  *next_ns = INT64_MAX;
  CHECK(now > 0);
  return FOUND_NOTHING;
}
void dump_cpu_begin(void) {}
void dump_cpu_end(void) {}
bool dump_cpu_is_running(void) { return false; }
int64_t dump_cpu_look(void) { return INT64_MAX; }
void dump_status_failed_for(const char *format, ...) { CHECK(!format); }

static long milliseconds_held_up(void) {
  int64_t start = agent_monotonic_nanoseconds();
  dumps_before_end(wake);
  return (long)((agent_monotonic_nanoseconds() - start) / 1000000);
}

/* Nobody writes. */
static int alone(void) {
  errno = ERANGE;
  CHECK(!dumps_end_is_near());
  CHECK(milliseconds_held_up() >= DUMPS_END_MILLISECONDS);
  CHECK(dumps_end_is_near() && woken == 1 && errno == ERANGE);
  CHECK(milliseconds_held_up() < DUMPS_END_MILLISECONDS && woken == 1);
  dumps_after_end(); /* it has been asked for already */
  CHECK(dumps_end_is_near() && written == 0);
  dumps_begin(); /* the admin thread comes late */
  CHECK(!dumps_end_is_near() && written == 0 && last == 1);
  dumps_end();
  return failures != 0;
}

/* The thread has begun, and has written by time as well. */
static int beside_the_thread(void) {
  dump_config.interval_seconds = 1;
  dumps_begin();
  while (atomic_load(&written) < 2) usleep(1000);
  CHECK(last == 0);
  dumps_before_end(wake);
  CHECK(last == 1 && !dumps_end_is_near() && woken == 1);
  dumps_end();
  int before = written;
  dumps_before_end(wake);
  CHECK(written == before && last == 1);
  return failures != 0;
}

static int without_names(void) {
  is_stuck = true;
  dumps_begin();
  long held_up = milliseconds_held_up();
  CHECK(last == 1 && held_up >= 50 && !dumps_end_is_near());
  return failures != 0; /* and the thread with it */
}

/* The program's last thread has ended. */
static int after_the_last_thread(void) {
  dumps_begin();
  dumps_end();
  CHECK(written == 0);
  dumps_after_end();
  dumps_after_end();
  CHECK(written == 0 && last == 1);
  return failures != 0;
}

int main(int argc, char **argv) {
  static int (*const cases[])(void) = {alone, beside_the_thread, without_names,
                                       after_the_last_thread};
  (void)argc;
  for (int i = 0; i < 4; i++) { /* each begins with nothing done */
    pid_t child = fork();
    if (child != 0) {
      int status = 0;
      CHECK(waitpid(child, &status, 0) == child && status == 0);
      if (status) printf("%s: case %d\n", argv[0], i);
      continue;
    }
    strcpy(dump_config.pattern, "/nowhere/%n-%p-%t-%k.pb.gz");
    dump_config.at_exit = true;
    dump_config.kinds = 1u << DUMP_HEAP;
    _exit(cases[i]());
  }
  return failures != 0;
}
