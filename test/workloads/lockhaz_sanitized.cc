// C++ threads with the standard library's locks, thread_local destructors that lock, exceptions
// across waits: for sanitizers and other hosts.
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <future>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <thread>
#include <vector>

static std::mutex mutex;
static std::shared_mutex shared;
static std::timed_mutex timed;
static std::condition_variable_any any;
static long counted, destroyed;

struct at_thread_end {
  bool used = false;
  ~at_thread_end() {
    std::lock_guard<std::mutex> lock(mutex);
    destroyed++;
  }
};
static thread_local at_thread_end last;

static void work(int id) {
  last.used = true;
  for (int i = 0; i < 1000; i++) {
    try {
      std::lock_guard<std::mutex> lock(mutex);
      counted++;
      if (i % 100 == id) throw std::runtime_error("out of the lock");
    } catch (const std::runtime_error &) {}
    if (i % 4) {
      std::shared_lock<std::shared_mutex> lock(shared);
    } else {
      std::unique_lock<std::shared_mutex> lock(shared);
    }
#ifndef __SANITIZE_THREAD__ // libtsan of gcc 12 does not know pthread_mutex_clocklock
    std::unique_lock<std::timed_mutex> lock(timed, std::chrono::seconds(100));
    if (!lock) std::abort();
#endif
  }
}

int main() {
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; i++) threads.emplace_back(work, i);
  for (auto &thread : threads) thread.join();
  std::unique_lock<std::shared_mutex> lock(shared);
  auto status = any.wait_for(lock, std::chrono::milliseconds(2));
  std::printf("counted %ld, destroyed %ld, timeout %d, future %d\n", counted, destroyed,
              status == std::cv_status::timeout,
              std::async(std::launch::async, [] { return 5; }).get());
}
