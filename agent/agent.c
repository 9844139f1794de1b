#include "agent.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shim/base/at_fork.h"
#include "shim/base/config.h"
#include "shim/base/confinement.h"
#include "shim/base/dump_config.h"
#include "shim/next/next_functions.h"
#include "shim/base/raw_syscall.h"
#include "shim/stacks/stack_capture.h"
#include "shim/base/thread_state.h"
#include "agent/runtime/agent_inherited.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/allowed_calls.h"
#include "agent/runtime/bare_thread.h"
#include "agent/dump/dumps.h"
#include "agent/http/connection_gate.h"
#include "agent/http/connection_inbox.h"
#include "agent/runtime/descriptor_table.h"
#include "admin_server.h"
#include "host_end.h"
#include "socket_file.h"
#include "agent/http/http_server.h"
#include "agent/http/listen_address.h"
#include "agent/http/localhost_twin.h"
#include "agent/runtime/log.h"
#include "agent/stacks/own_frames.h"
#include "agent/runtime/paced_poll.h"
#include "agent/runtime/process_info.h"
#include "agent/trace/trace_flight.h"
#include "agent/tree/process_tree.h"
#include "agent/http/request_watch.h"
#include "agent/runtime/sandbox.h"
#include "agent/runtime/agent_status.h"
#include "agent/symbols/symbol_memory.h"
#include "agent/symbols/symbolizer.h"
#include "agent/tls/tls_context.h"
#include "agent/runtime/thread_manners.h"
#include "agent/tls/tls_front.h"

#define MILLISECONDS INT64_C(1000000)
enum {
  /* processes that end sooner (compilers, shell commands) pay for a sleeping thread, no more */
  START_DELAY_MILLISECONDS = 100,
  PAUSE_MILLISECONDS = 1000,
  /* for the address, and whether a thread of the host's is left: one read in /proc */
  CHECK_SECONDS = 5,
  /* when the first thread ends by the system call: so long, so often */
  END_SECONDS = 1,
  END_CHECK_MILLISECONDS = 5,
  NAME_RETRY_MILLISECONDS = 500, /* for the tree's name, which somebody else has */
  /* without a connection, after which only the admin thread is left */
  SERVER_IDLE_MILLISECONDS = 500,
  /* Blocked in the admin thread and read through a signalfd, so the host's dispositions do not
   * matter and no handler runs. */
  WAKE_SIGNAL = SIGURG
};

enum admin_command { ADMIN_RUN, ADMIN_STOP, ADMIN_HURRY /* it runs, and starts at once */ };

/* Written by host threads (seq_cst: each side writes its own word, then reads the other's), read by
 * the admin thread. */
static _Atomic uint32_t command;
static _Atomic uint32_t admin_exists;
static _Atomic int32_t admin_tid;
static _Atomic uint32_t pause_depth;
static _Atomic uint32_t main_has_exited; /* by pthread_exit */
static _Atomic int64_t first_thread_ended_ns; /* by the system call; 0: it has not */
static _Atomic uint32_t cannot_follow; /* the host's credentials */
static _Atomic uint32_t wakes_sent;
static bool wanted;
static pid_t owner_pid; /* the process in which agent_start ran; a forked child has another pid and
                           at first no agent thread */

/* Written by the admin thread only. */
static struct listen_address address
    AGENT_INHERITED; /* a child shares the port that the kernel chose for its parent */
static bool started_before;
static int listener; /* -1: another process holds the port, or none of ours */
static bool left_quietly; /* while the program counted its threads; so it comes back */

static bool told_to_stop(void) { return atomic_load(&command) == ADMIN_STOP; }

/* Host thread: makes the admin thread look at its words again. */
static void wake_admin(void) {
  raw_futex_wake(&command, INT32_MAX);
  int32_t tid = atomic_load(&admin_tid);
  atomic_fetch_add(&wakes_sent, 1);
  if (tid) syscall(SYS_tgkill, owner_pid, tid, WAKE_SIGNAL);
}

void agent_hurry(void) {
  uint32_t runs = ADMIN_RUN;
  atomic_compare_exchange_strong(&command, &runs, ADMIN_HURRY);
  wake_admin();
}

/* ---- the admin thread ---- */

static void keep_reason(const char *text) {
  char before[SHARED_TEXT_MAX];
  if (strcmp(agent_status_off(before), text) == 0) return;
  agent_status_set_off(text);
  if (!left_quietly) log_event("off: %s", text);
}

/* Takes this process's place among those that share the address. */
static void enter_tree(void) {
  char reason[256] = "", where[160];
  if (strcmp(config.address, "off") == 0) return keep_reason("PPROFAGENT_ADDR=off");
  if (address.size == 0 &&
      !listen_address_parse(config.address, &address, reason, sizeof(reason))) {
    keep_reason(reason);
    return;
  }
  other_processes = &process_tree_as_others;
  enum tree_role role =
      process_tree_enter(&address, &listener, told_to_stop, reason, sizeof(reason));
  listen_address_format(&address, where, sizeof(where));
  agent_status_set_address(where);
  if (role != TREE_HOLDER && role != TREE_MEMBER) {
    if (!told_to_stop()) keep_reason(reason); /* else it has not tried to the end */
    return;
  }
  agent_status_set_off("");
  socket_file_remember(&address);
  if (role == TREE_MEMBER) return;
  if (left_quietly) left_quietly = false;
  else if (address.port) log_event("listening on http://%s/debug/pprof/", where);
  else log_event("listening on %s", where);
  if (admin_server_runs()) http_server_listen(listener);
  localhost_twin_look(&address);
  if (!atomic_load(&main_has_exited) && !tls_front_start(reason, sizeof(reason)))
    log_event("remote admin is off: %s", reason);
}

/* Another process is to have it. What is being answered goes on, but for remote admin; who waits at
 * the gate comes again. */
static void give_up_port(void) {
  tls_front_stop();
  if (admin_server_runs()) http_server_listen(-1);
  connection_gate_close();
  localhost_twin_forget();
  close(listener);
  listener = -1;
}

enum event { EVENT_WAKE, EVENT_LISTENER, EVENT_INBOX, EVENT_TREE, EVENT_GATE, EVENTS };

/* Waits for a connection, a command, the other processes or the timeout. */
static void wait_for_events(struct pollfd waits[EVENTS], int wake, int timeout_ms) {
  static bool wake_is_noisy; /* the host has the wake signal pending for all its threads: not ours
                                to take, nor to spin on */
  static uint32_t wakes_taken;
  static bool told_cannot_wait;
  waits[EVENT_WAKE] = (struct pollfd){.fd = wake_is_noisy ? -1 : wake, .events = POLLIN};
  waits[EVENT_LISTENER] =
      (struct pollfd){.fd = admin_server_runs() ? -1 : listener, .events = POLLIN};
  bool may_be_given = process_tree_role() == TREE_MEMBER || *config.tls_address;
  waits[EVENT_INBOX] = (struct pollfd){
      .fd = admin_server_runs() || !may_be_given ? -1 : connection_inbox_event(), .events = POLLIN};
  waits[EVENT_TREE] = (struct pollfd){.fd = process_tree_event(), .events = POLLIN};
  waits[EVENT_GATE] = (struct pollfd){.fd = connection_gate_event(), .events = POLLIN};
  if (wake_is_noisy && (timeout_ms < 0 || timeout_ms > 200)) timeout_ms = 200;
  wake_is_noisy = false;
  /* no more than there are: the kernel compares the number with RLIMIT_NOFILE */
  int ready = paced_poll(waits, waits[EVENT_GATE].fd < 0 ? EVENT_GATE : EVENTS, timeout_ms);
  if (ready < 0 && errno != EINTR && !told_cannot_wait) {
    told_cannot_wait = true;
    log_event("no connection can be waited for: %s",
              errno == EINVAL ? "the program has lowered its limit of open files (RLIMIT_NOFILE)"
                              : "no memory");
  }
  if (ready <= 0) {
    for (int i = 0; i < EVENTS; i++) waits[i].revents = 0;
  } else if (waits[EVENT_WAKE].revents) {
    struct signalfd_siginfo ignored;
    uint32_t sent = atomic_load(&wakes_sent);
    wake_is_noisy = sent == wakes_taken || read(wake, &ignored, sizeof(ignored)) <= 0;
    wakes_taken = sent;
  }
}

static int open_wake(void) {
  sigset_t wake_set;
  sigemptyset(&wake_set);
  sigaddset(&wake_set, WAKE_SIGNAL);
  /* signalfd() itself is one of the library's wrappers, which would take this for the host's. */
  return (int)syscall(SYS_signalfd4, -1, &wake_set, 8, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* After the first thread has said that it ends by the system call: until then. */
static bool host_may_end(int64_t now) {
  int64_t ended = atomic_load(&first_thread_ended_ns);
  return ended && now < ended + END_SECONDS * 1000 * MILLISECONDS;
}

static int sleep_milliseconds(int64_t now) {
  if (host_may_end(now)) return END_CHECK_MILLISECONDS;
  int longest = admin_server_runs()    ? SERVER_IDLE_MILLISECONDS / 2
                : process_tree_fault() ? NAME_RETRY_MILLISECONDS
                                       : CHECK_SECONDS * 1000;
  int gate = connection_gate_milliseconds();
  return gate < 0 || gate > longest ? longest : gate;
}

/* Returns when told to stop, or the address cannot be had. Where the host's last thread has ended
 * by syscall(SYS_exit), true: the process ends as soon as ours have ended too, and the kernel (5.17
 * and newer) takes the last one's exit code for the process's. */
static bool serve(int *exit_code) {
  bool ended = false;
  int wake = -1;
  int64_t next_try_ns = 0, next_check_ns = 0;
  while (!told_to_stop()) {
    int64_t now = agent_monotonic_nanoseconds();
    if (process_tree_role() == TREE_OUTSIDE && listener >= 0) give_up_port();
    if (process_tree_role() == TREE_OUTSIDE && now >= next_try_ns) {
      enter_tree();
      next_try_ns = now + CHECK_SECONDS * 1000 * MILLISECONDS;
      if (process_tree_role() == TREE_HOPELESS && !*dump_config.pattern) break;
    }
    if (atomic_load(&main_has_exited)) tls_front_stop();
    if (wake < 0) wake = open_wake(); /* after the listener, without which it is of no use */
    struct pollfd events[EVENTS];
    wait_for_events(events, wake, sleep_milliseconds(now));
    if (told_to_stop() || sandbox_look()) break;
    now = agent_monotonic_nanoseconds();
    if (now >= next_check_ns || host_may_end(now)) { /* by the clock, not for each event */
      ended = only_agent_threads_left(exit_code);
      next_check_ns = now + (CHECK_SECONDS * 1000 - 1) * MILLISECONDS;
      if (ended) break;
      if (listener >= 0) localhost_twin_look(&address);
    }
    if (events[EVENT_TREE].revents && !process_tree_handle()) next_try_ns = 0; /* outside */
    connection_gate_handle();
    bool cannot_accept = events[EVENT_LISTENER].revents && !connection_gate_accept(listener);
    if (!admin_server_runs() && (cannot_accept || connection_inbox_waits())) {
      admin_server_start(listener, &address, wake, told_to_stop);
    } else if (admin_server_runs() &&
               http_server_closes_if_idle_since(now - SERVER_IDLE_MILLISECONDS * MILLISECONDS)) {
      admin_server_stop();
    }
    process_tree_retry(listener);
    process_tree_look();
  }
  if (wake >= 0) close(wake);
  return ended;
}

static void leave(void) {
  tls_front_stop();
  if (admin_server_runs()) admin_server_stop();
  trace_flight_end();
  dumps_end(); /* when no client is sampled any more */
  process_tree_leave();
  connection_gate_close();
  localhost_twin_forget();
  connection_inbox_close();
  if (listener >= 0) close(listener);
  listener = -1;
}

static const char *why_paused(void) {
  if (atomic_load(&cannot_follow))
    return "the program's user or groups have changed, and a thread "
           "of the agent's could neither follow nor end";
  if (left_quietly) return "the program counts its threads";
  return confinement_forbids_calls() ? "the program puts itself into a sandbox (seccomp)"
                                     : "paused: the program changes its namespaces or capabilities";
}

/* The delay is from the first time on: a program may send this thread away again and again. A
 * signal ends the wait when credentials are to be followed. The clock is read then only: a short
 * program pays for no page of libc's, and no more than two of ours. */
static void await_start(void) {
  static int64_t begun_ns;
  struct timespec left = {.tv_nsec = START_DELAY_MILLISECONDS * MILLISECONDS};
  while (atomic_load(&command) == ADMIN_RUN) {
    if (begun_ns) {
      int64_t end = begun_ns + START_DELAY_MILLISECONDS * MILLISECONDS;
      left.tv_nsec = end - agent_monotonic_nanoseconds();
      if (left.tv_nsec <= 0) return;
    }
    if (raw_futex_wait(&command, ADMIN_RUN, &left) == -ETIMEDOUT) return;
    if (!begun_ns) begun_ns = agent_monotonic_nanoseconds();
  }
}

static void admin_life(void) {
  if (!started_before) await_start();
  if (told_to_stop()) return;
  uintptr_t own_start, own_end;
  stack_capture_own_code(&own_start, &own_end);
  own_frames_are(own_start, own_end);
  bare_thread_enter_libc();
  allowed_calls_look();
  /* The other agent threads inherit what it is then. */
  thread_manners_take(!allowed_calls_lack(CALLS_SCHEDULING));
  const char *lack = allowed_calls_lack(CALLS_SERVING);
  if (lack) {
    agent_status_set_off(lack);
    log_single_event(config.log, "off: %s", lack);
    return;
  }
  atomic_store(&admin_tid, (int32_t)syscall(SYS_gettid)); /* until here a futex wakes it */
  bool log_to_stderr = strcmp(config.log, "stderr") == 0;
  /* nothing is opened before this: the program would see the number taken */
  const char *isolation_fault = descriptor_table_isolate(log_to_stderr);
  agent_status_set_descriptor_isolation(isolation_fault);
  if (!started_before) {
    sandbox_remember();
    process_start_nanos(); /* by the clock as it is now */
  }
  log_open(config.log);
  symbol_memory_set_budget(config.symbol_memory);
  symbolizer_watch(request_is_wanted);
  if (!started_before) {
    for (uint32_t i = 0; i < config.fault_count; i++) log_event("%s", config.faults[i]);
    if (isolation_fault) log_event("%s", isolation_fault);
  }
  started_before = true;
  listener = -1;
  int exit_code = 0;
  dumps_begin();
  trace_flight_begin();
  bool host_has_ended = serve(&exit_code);
  bool was_inside = process_tree_role() != TREE_OUTSIDE;
  leave();
  if (host_has_ended) dumps_after_end();
  if (host_has_ended) syscall(SYS_exit, exit_code);
  left_quietly = told_to_stop() && agent_is_looked_for() && (was_inside || left_quietly);
  if (confinement_reason()) keep_reason(confinement_reason());
  else if (told_to_stop()) keep_reason(why_paused());
  log_close();
}

static void admin_main(void *argument) {
  (void)argument;
  do {
    admin_life();
    atomic_store(&admin_tid, 0);
    if (!told_to_stop()) break; /* the address cannot be had, or the program's threads have ended */
    atomic_store(&admin_exists, 0);
    /* Resumed after the pause gave up waiting for this thread: carry on in place of a new one. */
    uint32_t none = 0;
    if (told_to_stop() || !atomic_compare_exchange_strong(&admin_exists, &none, 1)) return;
  } while (true);
  atomic_store(&admin_exists, 0);
}

static void start_admin(void) {
  uint32_t none = 0;
  if (!atomic_compare_exchange_strong(&admin_exists, &none, 1)) return;
  int error = agent_thread_create(NULL, AGENT_THREAD_STACK, admin_main, NULL);
  if (error) {
    atomic_store(&admin_exists, 0);
    static const char reason[] = "the admin thread cannot be created";
    agent_status_set_off(reason);
    log_single_event(
        config.log, "off: %s: %s", reason,
        error == EAGAIN || error == ENOMEM
            ? "no memory or no threads left (RLIMIT_NPROC, RLIMIT_AS, the cgroup's pids.max)"
        : error == EINVAL ? "the program's children get a pid or time namespace of "
                            "their own, and it no more threads"
                          : "not permitted");
  }
}

/* ---- called by the host's threads ---- */

void agent_start_anew(void) {
  agent_status_set_was_forked();
  agent_start();
}

AT_FORK bool agent_is_wanted(void) { return wanted; }

void agent_start(void) {
  owner_pid = (pid_t)raw_syscall4(SYS_getpid, 0, 0, 0, 0); /* of libc's pages none is touched */
  wanted = strcmp(config.address, "off") != 0 || *dump_config.pattern; /* for its thread alone */
  if (!wanted) return agent_status_set_off("PPROFAGENT_ADDR=off");
  if (next_allocator.tsan) { /* it takes descriptors for shared by all threads, and reports what
                                ours do with their own */
    wanted = false;
    static const char reason[] = "the program is watched by ThreadSanitizer";
    agent_status_set_off(reason);
    log_single_event(config.log, "off: %s", reason);
    return;
  }
  if (*config.tls_address) agent_thread_announce();
  if (*config.tls_address && !agent_status_was_forked()) tls_context_at_start();
  start_admin();
}

bool agent_has_threads(void) {
  return !confinement_forbids_calls() && owner_pid == getpid() && atomic_load(&admin_exists);
}

/* Each tells: one in a signal handler may have interrupted another that has not told yet. */
bool agent_pause(void) {
  if (confinement_now() || owner_pid != getpid()) return true;
  atomic_fetch_add(&pause_depth, 1);
  atomic_store(&command, ADMIN_STOP);
  if (agent_thread_count() != 0) wake_admin();
  return agent_thread_await(0, agent_monotonic_nanoseconds() + PAUSE_MILLISECONDS * MILLISECONDS);
}

void agent_resume(void) {
  if (confinement_now() || owner_pid != getpid()) return;
  if (atomic_fetch_sub(&pause_depth, 1) != 1) return;
  atomic_store(&command, ADMIN_RUN);
  agent_credentials_forget(); /* at first there is nothing known */
  if (wanted) start_admin();
}

bool agent_is_process(int32_t tid) { return tid == owner_pid; }

void agent_thread_exits_by_call(void) {
  if (!agent_has_threads() || raw_syscall4(SYS_gettid, 0, 0, 0, 0) != owner_pid) return;
  atomic_store(&first_thread_ended_ns, agent_monotonic_nanoseconds());
  wake_admin();
}

void agent_leave_for_good(void) {
  if (atomic_exchange(&cannot_follow, 1)) return;
  atomic_fetch_add(&pause_depth, 1); /* and no resume */
  atomic_store(&command, ADMIN_STOP);
  wake_admin();
}

/* libc ends the process with its last thread, and knows none of ours but the front of remote admin.
 */
bool agent_main_thread_has_left(void) {
  return atomic_load_explicit(&main_has_exited, memory_order_relaxed);
}

void agent_main_thread_exits(void) {
  if (atomic_exchange(&main_has_exited, 1) || !*config.tls_address || !agent_has_threads()) return;
  wake_admin();
  agent_thread_await_libcs(agent_monotonic_nanoseconds() + PAUSE_MILLISECONDS * MILLISECONDS);
}
