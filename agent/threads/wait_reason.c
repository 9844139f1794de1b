#include "wait_reason.h"

#include <linux/futex.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "shim/stacks/stack_table.h"
#include "waited_descriptors.h"

__attribute__((format(printf, 2, 3))) static void say(struct wait_reason *reason,
                                                      const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(reason->text, sizeof reason->text, format, arguments);
  va_end(arguments);
}

/* ---- system calls ---- */

enum call_kind {
  WAITS_FOR_DESCRIPTOR, /* argument 0 */
  WAITS_FOR_EPOLL,
  WAITS_FOR_POLL,
  WAITS_FOR_SELECT,
  WAITS_FOR_TIME, /* argument 0: struct timespec */
  WAITS_FOR_CLOCK, /* argument 2, on the clock of argument 0 */
  WAITS_FOR_FUTEX,
  WAITS_FOR_SEMAPHORE,
  WAITS_FOR_CHILD,
  WAITS_FOR_CHILD_ID,
  WAITS_FOR_FILE_LOCK,
  WAITS_FOR_RECORD_LOCK, /* fcntl, if argument 1 is one of those that wait */
  WAITS_FOR_SIGNALS, /* argument 0: the set */
  WAITS_FOR_ANY_SIGNAL,
  WAITS_FOR_IO /* nothing more to say */
};

struct known_call {
  long number;
  enum call_kind kind;
};

static const struct known_call known_calls[] = {
    {SYS_read, WAITS_FOR_DESCRIPTOR},
    {SYS_pread64, WAITS_FOR_DESCRIPTOR},
    {SYS_readv, WAITS_FOR_DESCRIPTOR},
    {SYS_preadv, WAITS_FOR_DESCRIPTOR},
    {SYS_preadv2, WAITS_FOR_DESCRIPTOR},
    {SYS_write, WAITS_FOR_DESCRIPTOR},
    {SYS_pwrite64, WAITS_FOR_DESCRIPTOR},
    {SYS_writev, WAITS_FOR_DESCRIPTOR},
    {SYS_pwritev, WAITS_FOR_DESCRIPTOR},
    {SYS_pwritev2, WAITS_FOR_DESCRIPTOR},
    {SYS_recvfrom, WAITS_FOR_DESCRIPTOR},
    {SYS_recvmsg, WAITS_FOR_DESCRIPTOR},
    {SYS_recvmmsg, WAITS_FOR_DESCRIPTOR},
    {SYS_sendto, WAITS_FOR_DESCRIPTOR},
    {SYS_sendmsg, WAITS_FOR_DESCRIPTOR},
    {SYS_sendmmsg, WAITS_FOR_DESCRIPTOR},
    {SYS_accept, WAITS_FOR_DESCRIPTOR},
    {SYS_accept4, WAITS_FOR_DESCRIPTOR},
    {SYS_connect, WAITS_FOR_DESCRIPTOR},
    {SYS_sendfile, WAITS_FOR_DESCRIPTOR},
    {SYS_splice, WAITS_FOR_DESCRIPTOR},
    {SYS_fsync, WAITS_FOR_DESCRIPTOR},
    {SYS_fdatasync, WAITS_FOR_DESCRIPTOR},
    {SYS_mq_timedreceive, WAITS_FOR_DESCRIPTOR},
    {SYS_mq_timedsend, WAITS_FOR_DESCRIPTOR},
    {SYS_epoll_pwait, WAITS_FOR_EPOLL},
#ifdef SYS_epoll_pwait2
    {SYS_epoll_pwait2, WAITS_FOR_EPOLL},
#endif
    {SYS_ppoll, WAITS_FOR_POLL},
    {SYS_pselect6, WAITS_FOR_SELECT},
    {SYS_nanosleep, WAITS_FOR_TIME},
    {SYS_clock_nanosleep, WAITS_FOR_CLOCK},
    {SYS_futex, WAITS_FOR_FUTEX},
    {SYS_semop, WAITS_FOR_SEMAPHORE},
    {SYS_semtimedop, WAITS_FOR_SEMAPHORE},
    {SYS_wait4, WAITS_FOR_CHILD},
    {SYS_waitid, WAITS_FOR_CHILD_ID},
    {SYS_flock, WAITS_FOR_FILE_LOCK},
    {SYS_fcntl, WAITS_FOR_RECORD_LOCK},
    {SYS_rt_sigtimedwait, WAITS_FOR_SIGNALS},
    {SYS_rt_sigsuspend, WAITS_FOR_ANY_SIGNAL},
    {SYS_io_getevents, WAITS_FOR_IO},
    {SYS_io_uring_enter, WAITS_FOR_DESCRIPTOR},
    {SYS_msgrcv, WAITS_FOR_IO},
    {SYS_msgsnd, WAITS_FOR_IO},
    {SYS_sync, WAITS_FOR_IO},
#ifdef SYS_poll /* old calls that newer architectures do not have */
    {SYS_poll, WAITS_FOR_POLL},
    {SYS_select, WAITS_FOR_SELECT},
    {SYS_epoll_wait, WAITS_FOR_EPOLL},
    {SYS_pause, WAITS_FOR_ANY_SIGNAL},
#endif
};

static const struct known_call *find_call(int32_t number) {
  for (size_t i = 0; i < sizeof known_calls / sizeof *known_calls; i++)
    if (known_calls[i].number == number) return &known_calls[i];
  return NULL;
}

static void say_time(struct wait_reason *reason, struct memory_reader *memory, uint64_t address) {
  struct timespec time;
  if (!memory_reader_read(memory, address, &time, sizeof time) || time.tv_nsec < 0 ||
      time.tv_nsec > 999999999)
    return;
  say(reason, "a sleep of %lld.%09ld s", (long long)time.tv_sec, time.tv_nsec);
}

/* A point of the clock: as what is left of the wait. */
static void say_moment(struct wait_reason *reason, struct memory_reader *memory, uint64_t address,
                       clockid_t clock) {
  struct timespec time, now;
  if (!memory_reader_read(memory, address, &time, sizeof time) || clock_gettime(clock, &now) != 0)
    return;
  long long left = (time.tv_sec - now.tv_sec) * 1000ll + (time.tv_nsec - now.tv_nsec) / 1000000;
  if (left >= 0) say(reason, "another %lld.%03lld s", left / 1000, left % 1000);
}

static void say_signals(struct wait_reason *reason, struct memory_reader *memory,
                        uint64_t address) {
  enum { SIGNALS = 64, SHOWN_MAX = 12 };
  uintptr_t set;
  int shown = 0;
  if (!memory_reader_word(memory, address, &set)) return;
  say(reason, "signal");
  size_t used = strlen(reason->text);
  for (int signal = 1; signal <= SIGNALS && shown <= SHOWN_MAX; signal++) {
    if (!(set >> (signal - 1) & 1)) continue;
    if (shown++ == SHOWN_MAX)
      used += (size_t)snprintf(reason->text + used, sizeof reason->text - used, " ...");
    else used += (size_t)snprintf(reason->text + used, sizeof reason->text - used, " %d", signal);
  }
}

static void say_child(struct wait_reason *reason, int32_t pid) {
  if (pid > 0) say(reason, "process %d", (int)pid);
  else if (pid == -1) say(reason, "any child process");
  else say(reason, "a child in process group %d", (int)-pid);
}

static void say_child_id(struct wait_reason *reason, int32_t tid, uint64_t type, int32_t id) {
  enum { OF_ALL, OF_PID, OF_GROUP, OF_DESCRIPTOR };
  if (type == OF_ALL) say(reason, "any child process");
  else if (type == OF_PID) say(reason, "process %d", (int)id);
  else if (type == OF_GROUP) say(reason, "a child in process group %d", (int)id);
  else if (type == OF_DESCRIPTOR)
    waited_descriptor_describe(tid, id, reason->text, sizeof reason->text);
}

static void look_at_futex(struct wait_reason *reason, struct memory_reader *memory,
                          uint64_t address) {
  reason->is_futex = true;
  while (reason->word_count < FUTEX_WORDS &&
         memory_reader_read(memory, address + reason->word_count * 4,
                            &reason->words[reason->word_count], 4))
    reason->word_count++;
  say(reason, "futex 0x%llx", (unsigned long long)address);
}

void wait_reason_look(const struct dumped_thread *thread, bool stopped,
                      struct memory_reader *memory, struct wait_reason *out) {
  *out = (struct wait_reason){.state = "syscall"};
  if (thread->syscall < 0) {
    out->state = stopped ? "waiting" : "IO wait";
    say(out, stopped ? "to be continued: it is stopped" : "a page of memory");
    return;
  }
  const struct known_call *call = find_call(thread->syscall);
  if (!call) return;
  const uint64_t *arguments = thread->arguments;
  char *text = out->text;
  switch (call->kind) {
    case WAITS_FOR_DESCRIPTOR:
      out->state = "IO wait";
      waited_descriptor_describe(thread->tid, (int32_t)arguments[0], text, WAIT_TEXT_MAX);
      break;
    case WAITS_FOR_EPOLL:
      out->state = "IO wait";
      waited_epoll_describe(thread->tid, (int32_t)arguments[0], text, WAIT_TEXT_MAX);
      break;
    case WAITS_FOR_POLL:
      out->state = "IO wait";
      waited_poll_describe(thread->tid, memory, arguments[0], arguments[1], text, WAIT_TEXT_MAX);
      break;
    case WAITS_FOR_SELECT:
      out->state = "select";
      waited_select_describe(memory, arguments[0], arguments + 1, text, WAIT_TEXT_MAX);
      break;
    case WAITS_FOR_TIME:
      out->state = "sleep";
      say_time(out, memory, arguments[0]);
      break;
    case WAITS_FOR_CLOCK:
      out->state = "sleep";
      if (arguments[1] & TIMER_ABSTIME)
        say_moment(out, memory, arguments[2], (clockid_t)arguments[0]);
      else say_time(out, memory, arguments[2]);
      break;
    case WAITS_FOR_FUTEX:
      out->state = "semacquire";
      look_at_futex(out, memory, arguments[0]);
      break;
    case WAITS_FOR_SEMAPHORE:
      out->state = "semacquire";
      say(out, "semaphore set %d", (int)arguments[0]);
      break;
    case WAITS_FOR_CHILD: say_child(out, (int32_t)arguments[0]); break;
    case WAITS_FOR_CHILD_ID:
      say_child_id(out, thread->tid, arguments[0], (int32_t)arguments[1]);
      break;
    case WAITS_FOR_RECORD_LOCK:
      if (arguments[1] != 7 /* F_SETLKW */ && arguments[1] != 38 /* F_OFD_SETLKW */) break;
      /* fall through */
    case WAITS_FOR_FILE_LOCK: {
      char descriptor[WAIT_TEXT_MAX - 16];
      waited_descriptor_describe(thread->tid, (int32_t)arguments[0], descriptor, sizeof descriptor);
      say(out, "a lock on %s", descriptor);
      break;
    }
    case WAITS_FOR_SIGNALS: say_signals(out, memory, arguments[0]); break;
    case WAITS_FOR_ANY_SIGNAL: say(out, "a signal"); break;
    case WAITS_FOR_IO: out->state = "IO wait"; break;
  }
}

/* ---- without a system call: by the kernel's own function ---- */

/* By parts of its name, which changes with the kernel's releases; the first that matches counts. */
static const struct kernel_wait {
  char part[12], state[12]; /* in place: the loader has nothing to relocate at each exec */
} kernel_waits[] = {
    {"futex", "semacquire"}, {"select", "select"},       {"poll", "IO wait"},
    {"nanosleep", "sleep"},  {"pipe", "IO wait"},        {"accept", "IO wait"},
    {"recv", "IO wait"},     {"stream_read", "IO wait"}, {"skb", "IO wait"},
    {"sk_wait", "IO wait"},  {"wait_woken", "IO wait"},  {"sem", "semacquire"},
};

void wait_reason_guess(const char *kernel_function, bool stopped, struct wait_reason *out) {
  *out = (struct wait_reason){.state = "waiting"};
  if (stopped) return say(out, "to be continued: it is stopped");
  if (!*kernel_function) return;
  say(out, "the kernel's %s", kernel_function);
  for (size_t i = 0; i < sizeof kernel_waits / sizeof *kernel_waits; i++)
    if (strstr(kernel_function, kernel_waits[i].part)) {
      out->state = kernel_waits[i].state;
      return;
    }
}

bool wait_reason_is_harmless_to_interrupt(const char *kernel_function) {
  static const char *const parts[] = {"futex",     "do_wait",   "wait4", "sigsuspend",
                                      "sys_pause", "pipe_read", "msgrcv"};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    if (strstr(kernel_function, parts[i])) return true;
  return false;
}

void wait_reason_was_asked(struct wait_reason *reason) {
  size_t length = strlen(reason->text);
  snprintf(reason->text + length, sizeof reason->text - length, "%sasked by a signal",
           length ? ", " : "");
}

/* ---- what a futex is ---- */

enum lock_kind {
  LOCK_MUTEX,
  LOCK_PTHREAD_MUTEX,
  LOCK_PTHREAD_READ,
  LOCK_PTHREAD_WRITE,
  LOCK_READ,
  LOCK_WRITE,
  LOCK_CONDITION,
  LOCK_SEMAPHORE,
  LOCK_THREAD,
  LOCK_OTHER
};

/* By the beginning of a function's name, from the leaf outwards; the first that matches counts. */
struct lock_function {
  char name[32]; /* in place, as kernel_waits */
  bool anywhere; /* not only at the beginning */
  enum lock_kind kind;
};
static const struct lock_function lock_functions[] = {
    {"pthread_mutex_", false, LOCK_PTHREAD_MUTEX},
    {"mtx_", false, LOCK_PTHREAD_MUTEX},
    {"pthread_rwlock_rd", false, LOCK_PTHREAD_READ},
    {"pthread_rwlock_timedrd", false, LOCK_PTHREAD_READ},
    {"pthread_rwlock_clockrd", false, LOCK_PTHREAD_READ},
    {"pthread_rwlock_", false, LOCK_PTHREAD_WRITE},
    {"pthread_cond_", false, LOCK_CONDITION},
    {"cnd_", false, LOCK_CONDITION},
    {"sem_", false, LOCK_SEMAPHORE},
    {"new_sem_", false, LOCK_SEMAPHORE},
    {"pthread_join", false, LOCK_THREAD},
    {"pthread_timedjoin", false, LOCK_THREAD},
    {"pthread_clockjoin", false, LOCK_THREAD},
    {"pthread_tryjoin", false, LOCK_THREAD},
    {"thrd_join", false, LOCK_THREAD},
    {"pthread_barrier_", false, LOCK_OTHER},
    /* Rust's standard library, parking_lot, Abseil */
    {"RwLock::read_contended", true, LOCK_READ},
    {"RwLock::write_contended", true, LOCK_WRITE},
    {"Mutex::lock_contended", true, LOCK_MUTEX},
    {"Condvar::wait", true, LOCK_CONDITION},
    {"RawMutex::lock_slow", true, LOCK_MUTEX},
    {"RawRwLock::lock_shared_slow", true, LOCK_READ},
    {"RawRwLock::lock_exclusive_slow", true, LOCK_WRITE},
    {"Parker::park", true, LOCK_OTHER},
    {"absl::CondVar::", true, LOCK_CONDITION},
    {"Mutex::LockSlow", true, LOCK_MUTEX},
    {"Mutex::ReaderLock", true, LOCK_READ},
    {"counting_semaphore", true, LOCK_SEMAPHORE},
    {"lll_lock_wait", false, LOCK_MUTEX}, /* libc's own locks: of malloc, of a FILE; or a mutex,
                                             whose function comes next */
};

static const struct lock_function *find_lock_function(const char *name) {
  /* libc's names for itself: __GI___lll_lock_wait_private, __libc_... */
  for (size_t skip = 1; skip; name += skip)
    skip = *name == '_'                     ? 1
           : strncmp(name, "GI_", 3) == 0   ? 3
           : strncmp(name, "libc_", 5) == 0 ? 5
                                            : 0;
  for (size_t i = 0; i < sizeof lock_functions / sizeof *lock_functions; i++) {
    const struct lock_function *function = &lock_functions[i];
    if (function->anywhere ? strstr(name, function->name) != NULL
                           : strncmp(name, function->name, strlen(function->name)) == 0)
      return function;
  }
  return NULL;
}

/* direct: nothing lies between that function and the system call but more of its own library. A
 * handler that interrupted it may wait for anything. */
static enum lock_kind find_lock_kind(const struct dumped_thread *thread,
                                     const struct mappings *mappings,
                                     struct symbolizer_session *symbols, bool *direct) {
  enum { FRAMES_MAX = 6 };
  enum lock_kind kind = LOCK_OTHER;
  const struct mapping *leaf = NULL;
  *direct = true;
  for (uint32_t i = 0; i < thread->frame_count && i < FRAMES_MAX; i++) {
    uint64_t address = thread->frames[i] - 1;
    if (thread->frames[i] < STACK_MARKER_LIMIT) break;
    const struct mapping *map = mappings_find(mappings, address, thread->epoch);
    if (i == 0) leaf = map;
    *direct = *direct && map && map == leaf;
    const struct symbol_location *location = symbolizer_resolve(symbols, map, address);
    for (uint32_t k = 0; k < location->frame_count; k++) {
      const struct lock_function *function =
          location->frames[k].function ? find_lock_function(location->frames[k].function) : NULL;
      if (!function) continue;
      kind = function->kind;
      if (kind != LOCK_MUTEX) return kind;
    }
    /* A low-level lock's caller says more, if it is a lock's function too. */
    const char *outer =
        location->frame_count ? location->frames[location->frame_count - 1].function : NULL;
    if (kind == LOCK_MUTEX && outer && !find_lock_function(outer)) return kind;
  }
  return kind;
}

static bool is_tid(uint32_t word) { return word > 0 && word <= FUTEX_TID_MASK; }

static void add_holder(struct wait_reason *reason, uint32_t tid) {
  size_t used = strlen(reason->text);
  snprintf(reason->text + used, sizeof reason->text - used, " held by %u", tid);
}

/* The word'th from the futex on names the holder; the object begins so many words before the futex.
 */
static void need(struct wait_reason *reason, const struct dumped_thread *thread,
                 enum need_kind kind, uint32_t word, uint32_t before) {
  uint64_t futex = thread->arguments[0];
  uint32_t holder = word < reason->word_count ? reason->words[word] & FUTEX_TID_MASK : 0;
  bool has_limit = thread->arguments[3] != 0;
  if (has_limit || (holder == 0 && kind != NEED_REFUSED)) return;
  reason->need = (struct thread_need){.kind = kind,
                                      .holder = (int32_t)holder,
                                      .object = futex - before * sizeof(uint32_t),
                                      .holder_at = futex + word * sizeof(uint32_t),
                                      .shared = !(thread->arguments[1] & FUTEX_PRIVATE_FLAG)};
}

static bool waits_by_value(int operation) {
  return operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET;
}

/* glibc's pthread_mutex_t: lock, count, owner; a robust one's lock is its owner's tid. */
static void name_mutex(struct wait_reason *reason, const struct dumped_thread *thread,
                       bool is_wait) {
  reason->state = "sync.Mutex.Lock";
  uint32_t value = (uint32_t)thread->arguments[2];
  if (reason->word_count == 0 || !is_wait) return;
  /* No lock is waited for while it is 0: libc parks the thread (pthread_mutex_lock.c, "Delay the
   * thread indefinitely"). */
  if (reason->words[0] == 0 && value == 0) return need(reason, thread, NEED_REFUSED, 0, 0);
  if (reason->words[0] == 0 || reason->word_count <= 2 || !is_tid(reason->words[2])) return;
  add_holder(reason, reason->words[2]);
  need(reason, thread, NEED_MUTEX, 2, 0);
}

/* glibc's pthread_rwlock_t. Readers wait at __wrphase_futex, four words before __cur_writer and two
 * behind the start; a writer there as well, for readers, of whom nothing is known; or, behind
 * another writer, at __writers_futex, a word later. */
static void name_rwlock(struct wait_reason *reason, const struct dumped_thread *thread,
                        bool for_reading) {
  enum { READERS_TO_WRITER = 4, WRITERS_TO_WRITER = 3, START_TO_READERS = 2, START_TO_WRITERS = 3 };
  uint32_t word = for_reading ? READERS_TO_WRITER : WRITERS_TO_WRITER;
  reason->state = for_reading ? "sync.RWMutex.RLock" : "sync.RWMutex.Lock";
  if (word >= reason->word_count || !is_tid(reason->words[word])) return;
  add_holder(reason, reason->words[word]);
  need(reason, thread, NEED_RWLOCK, word, for_reading ? START_TO_READERS : START_TO_WRITERS);
}

void wait_reason_name(const struct dumped_thread *thread, const struct mappings *mappings,
                      struct symbolizer_session *symbols, struct wait_reason *reason) {
  if (!reason->is_futex) return;
  int operation = (int)(thread->arguments[1] & FUTEX_CMD_MASK);
  bool direct;
  enum lock_kind kind = find_lock_kind(thread, mappings, symbols, &direct);
#ifdef FUTEX_LOCK_PI2
  bool inherits = operation == FUTEX_LOCK_PI || operation == FUTEX_LOCK_PI2;
#else
  bool inherits = operation == FUTEX_LOCK_PI;
#endif
  if (inherits) { /* the word itself names the owner, by the kernel's rule */
    reason->state = "sync.Mutex.Lock";
    if (reason->word_count == 0 || !is_tid(reason->words[0] & FUTEX_TID_MASK)) return;
    add_holder(reason, reason->words[0] & FUTEX_TID_MASK);
    need(reason, thread, NEED_MUTEX, 0, 0);
    return;
  }
  bool is_wait = direct && waits_by_value(operation);
  switch (kind) {
    case LOCK_PTHREAD_MUTEX: name_mutex(reason, thread, is_wait); break;
    case LOCK_MUTEX: reason->state = "sync.Mutex.Lock"; break;
    case LOCK_PTHREAD_READ: name_rwlock(reason, thread, true); break;
    case LOCK_READ: reason->state = "sync.RWMutex.RLock"; break;
    case LOCK_PTHREAD_WRITE: name_rwlock(reason, thread, false); break;
    case LOCK_WRITE: reason->state = "sync.RWMutex.Lock"; break;
    case LOCK_CONDITION: reason->state = "sync.Cond.Wait"; break;
    case LOCK_SEMAPHORE: reason->state = "semacquire"; break;
    case LOCK_THREAD: /* the word is the thread's tid, until the kernel clears it */
      if (reason->word_count == 0 || !is_tid(reason->words[0])) break;
      say(reason, "thread %u", reason->words[0]);
      if (is_wait) need(reason, thread, NEED_END, 0, 0);
      break;
    case LOCK_OTHER: break;
  }
}
