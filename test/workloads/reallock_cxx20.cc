// The C++20 library's ways to wait, one after the other: a thread waits ROUNDS times in by_KIND,
// and the first thread, which sees it asleep in a futex call before it does anything, makes each
// wait last 20 ms and ends it in release_KIND.
// Truth: `wait FUNCTION LEAF COUNT NANOSECONDS AWAKE` as the waiter measured it, AWAKE being the
// part in which it ran or queued for a processor (the library yields some times before it sleeps);
// `release FUNCTION LEAF COUNT NANOSECONDS AWAKE`, LEAF - where the mutex profile has nothing to
// show: from the beginning of each wait to its release.
#include <atomic>
#include <barrier>
#include <chrono>
#include <condition_variable>
#include <fcntl.h>
#include <future>
#include <latch>
#include <mutex>
#include <optional>
#include <semaphore>
#include <shared_mutex>
#include <sys/syscall.h>
#include <thread>

#include "workload.h"

enum { ROUNDS = 10, HOLD_MILLISECONDS = 20 };

static int turn[2], done[2]; // pipes: nothing but the waits in question shall be waits
static std::atomic<int> waiter_tid;
static uint64_t wait_began, waited, awake;

static uint64_t now() {
  return (uint64_t)std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

static uint64_t time_awake() { // of this thread, ns
  char text[96] = "";
  int descriptor = open("/proc/thread-self/schedstat", O_RDONLY);
  CHECK(read(descriptor, text, sizeof text - 1) > 0);
  close(descriptor);
  char *queued;
  uint64_t ran = strtoull(text, &queued, 10);
  return ran + strtoull(queued, nullptr, 10);
}

struct measured { // the time from here to the end of the block
  uint64_t awake_before = time_awake();
  measured() { __atomic_store_n(&wait_began, now(), __ATOMIC_RELEASE); }
  ~measured() {
    waited += now() - wait_began;
    awake += time_awake() - awake_before;
  }
};

static void give(int pipe_end) { CHECK(write(pipe_end, "x", 1) == 1); }
static void take(int pipe_end) {
  char byte;
  CHECK(read(pipe_end, &byte, 1) == 1);
}

static bool waiter_sleeps() {
  char path[64], text[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/syscall", waiter_tid.load());
  int descriptor = open(path, O_RDONLY);
  ssize_t length = descriptor >= 0 ? read(descriptor, text, sizeof text - 1) : 0;
  close(descriptor);
  text[length > 0 ? length : 0] = 0;
  return strtol(text, nullptr, 10) == SYS_futex;
}

static void hold_waiter() {
  while (!waiter_sleeps()) usleep(500);
  usleep(HOLD_MILLISECONDS * 1000);
}

static std::mutex mutex;
static std::timed_mutex timed_mutex;
static std::recursive_mutex recursive_mutex;
static std::shared_mutex shared_mutex;
static std::condition_variable condition;
static std::counting_semaphore<8> semaphore(0);
static std::binary_semaphore timed_semaphore(0);
static std::barrier<> barrier(2);
static std::atomic<int> number;
static std::optional<std::latch> latch;
static std::optional<std::promise<int>> promise;
static std::thread joined;
static int gate[2];
static bool signalled;

FRAME static void by_mutex() {
  measured m;
  mutex.lock();
}
FRAME static void by_timed_mutex() {
  measured m;
  CHECK(timed_mutex.try_lock_for(std::chrono::seconds(60)));
}
FRAME static void by_recursive_mutex() {
  measured m;
  recursive_mutex.lock();
}
FRAME static void by_shared_lock() {
  measured m;
  shared_mutex.lock_shared();
}
FRAME static void by_unique_lock() {
  measured m;
  shared_mutex.lock();
}
FRAME static void by_condition() {
  std::unique_lock<std::mutex> lock(mutex);
  measured m;
  while (!signalled) condition.wait(lock);
}
FRAME static void by_condition_until() {
  std::unique_lock<std::mutex> lock(mutex);
  measured m;
  while (!signalled) condition.wait_for(lock, std::chrono::seconds(60));
}
FRAME static void by_latch() {
  measured m;
  latch->wait();
}
FRAME static void by_semaphore() {
  measured m;
  semaphore.acquire();
}
FRAME static void by_semaphore_until() {
  measured m;
  CHECK(timed_semaphore.try_acquire_for(std::chrono::seconds(60)));
}
FRAME static void by_barrier() {
  measured m;
  barrier.arrive_and_wait();
}
FRAME static void by_atomic() {
  measured m;
  number.wait(0);
}
FRAME static void by_future() {
  measured m;
  promise->get_future().wait();
}
FRAME static void by_join() {
  measured m;
  joined.join();
}

FRAME static void release_mutex() {
  mutex.unlock();
  __asm__ volatile("");
}
FRAME static void release_timed_mutex() {
  timed_mutex.unlock();
  __asm__ volatile("");
}
FRAME static void release_recursive_mutex() {
  recursive_mutex.unlock();
  __asm__ volatile("");
}
FRAME static void release_shared_lock() {
  shared_mutex.unlock();
  __asm__ volatile("");
}
FRAME static void release_unique_lock() {
  shared_mutex.unlock_shared();
  __asm__ volatile("");
}
FRAME static void release_condition() {
  {
    std::lock_guard<std::mutex> lock(mutex);
    signalled = true;
  }
  condition.notify_one();
  __asm__ volatile("");
}
FRAME static void release_latch() {
  latch->count_down();
  __asm__ volatile("");
}
FRAME static void release_semaphore() {
  semaphore.release();
  __asm__ volatile("");
}
FRAME static void release_semaphore_until() {
  timed_semaphore.release();
  __asm__ volatile("");
}
FRAME static void release_barrier() {
  (void)barrier.arrive();
  __asm__ volatile("");
}
FRAME static void release_atomic() {
  number = 1;
  number.notify_one();
  __asm__ volatile("");
}
FRAME static void release_future() {
  promise->set_value(1);
  __asm__ volatile("");
}
FRAME static void release_join() { give(gate[1]); }

static void nothing() {}

struct kind {
  const char *name, *wait_leaf, *release_leaf;
  void (*prepare)(), (*wait)(), (*after)(), (*release)();
};
static const kind kinds[] = {
    {"mutex", "pthread_mutex_lock", "pthread_mutex_unlock", [] { mutex.lock(); }, by_mutex,
     [] { mutex.unlock(); }, release_mutex},
    {"timed_mutex", "pthread_mutex_clocklock", "pthread_mutex_unlock", [] { timed_mutex.lock(); },
     by_timed_mutex, [] { timed_mutex.unlock(); }, release_timed_mutex},
    {"recursive_mutex", "pthread_mutex_lock", "pthread_mutex_unlock",
     [] {
       recursive_mutex.lock();
       recursive_mutex.lock();
       recursive_mutex.unlock();
     },
     by_recursive_mutex, [] { recursive_mutex.unlock(); }, release_recursive_mutex},
    {"shared_lock", "pthread_rwlock_rdlock", "pthread_rwlock_unlock", [] { shared_mutex.lock(); },
     by_shared_lock, [] { shared_mutex.unlock_shared(); }, release_shared_lock},
    {"unique_lock", "pthread_rwlock_wrlock", "pthread_rwlock_unlock",
     [] { shared_mutex.lock_shared(); }, by_unique_lock, [] { shared_mutex.unlock(); },
     release_unique_lock},
    {"condition", "pthread_cond_wait", "-", [] { signalled = false; }, by_condition, nothing,
     release_condition},
    {"condition_until", "pthread_cond_clockwait", "-", [] { signalled = false; },
     by_condition_until, nothing, release_condition},
    {"latch", "syscall", "syscall", [] { latch.emplace(1); }, by_latch, nothing, release_latch},
    {"semaphore", "syscall", "syscall", nothing, by_semaphore, nothing, release_semaphore},
    {"semaphore_until", "syscall", "syscall", nothing, by_semaphore_until, nothing,
     release_semaphore_until},
    {"barrier", "syscall", "syscall", nothing, by_barrier, nothing, release_barrier},
    {"atomic", "syscall", "syscall", [] { number = 0; }, by_atomic, nothing, release_atomic},
    {"future", "syscall", "syscall", [] { promise.emplace(); }, by_future, nothing, release_future},
    {"join", "pthread_join", "-", [] { joined = std::thread([] { take(gate[0]); }); }, by_join,
     nothing, release_join},
};

int main() {
  CHECK(pipe(turn) == 0 && pipe(done) == 0 && pipe(gate) == 0);
  std::thread waiter([] {
    waiter_tid = (int)syscall(SYS_gettid);
    for (const kind &kind : kinds)
      for (int i = 0; i < ROUNDS; i++) {
        take(turn[0]);
        kind.wait();
        kind.after();
        give(done[1]);
      }
  });
  for (const kind &kind : kinds) {
    uint64_t until_release = 0;
    waited = awake = 0;
    for (int i = 0; i < ROUNDS; i++) {
      kind.prepare();
      give(turn[1]);
      hold_waiter();
      until_release += now() - __atomic_load_n(&wait_began, __ATOMIC_ACQUIRE);
      kind.release();
      take(done[0]);
    }
    say("wait by_%s %s %d %lu %lu\n", kind.name, kind.wait_leaf, (int)ROUNDS, waited, awake);
    say("release release_%s %s %d %lu %lu\n", kind.name, kind.release_leaf, (int)ROUNDS,
        until_release, awake);
  }
  waiter.join();
  ready();
  return 5;
}
