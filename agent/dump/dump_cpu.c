#include "dump_cpu.h"

#include "agent/cpu/cpu_recording.h"
#include "dump_status.h"
#include "shim/base/config.h"
#include "shim/base/confinement.h"
#include "shim/base/dump_config.h"
#include "shim/cpu/sampling_signal.h"

/* Written by the thread that dumps, or by the admin thread where that is not there. */
static struct cpu_recording *running, *ended;
static const char *fault;

static void start(void) {
  const char *reason;
  running = cpu_recording_start((uint32_t)config.cpuprofile_rate, &reason);
  fault = running ? NULL : reason;
}

static bool is_asked_for(void) { return dump_config.kinds >> DUMP_CPU & 1; }

void dump_cpu_begin(void) {
  if (is_asked_for()) start();
}

bool dump_cpu_is_running(void) { return running != NULL; }

static void stop(void) {
  cpu_recording_release(ended);
  ended = running;
  running = NULL;
  if (ended) cpu_recording_stop(ended);
}

void dump_cpu_end(void) {
  if (running) {
    dump_status_failed_for(
        "cpu: the agent had to leave the program: what was sampled since the last "
        "file is lost");
    stop();
    if (!confinement_forbids_calls()) sampling_signal_retire();
  }
  cpu_recording_release(ended);
  ended = NULL;
}

int64_t dump_cpu_look(void) { return running ? cpu_recording_look() : INT64_MAX; }

/* The next begins first: the sampler goes on. */
void dump_cpu_cut(bool is_last) {
  if (!is_asked_for() || !running) return;
  struct cpu_recording *before = running;
  running = NULL;
  if (!is_last) start();
  struct cpu_recording *next = running;
  running = before;
  stop();
  running = next;
}

struct profile *dump_cpu_build(void) {
  return ended ? cpu_recording_build(ended) : NULL;
}

const char *dump_cpu_fault(void) {
  if (ended) return NULL;
  return fault ? fault : "the program ended before it was sampled";
}
