// Threads made by the C++ library, and through a library of the program's own. Truth: `created NAME
// TID FUNCTION LINE`, FUNCTION as a goroutine dump writes a creator (without spaces; of a template
// up to its arguments).
#include <future>
#include <semaphore.h>
#include <sys/syscall.h>
#include <thread>
#include <vector>

#include "workload.h"

extern "C" void library_start(void *(*start)(void *), void *argument);

static int gate[2];
static sem_t announced;
static std::vector<std::thread> threads;
static std::vector<std::future<int>> futures;

FRAME static int wait_at_gate(const char *name, const char *function, int line) {
  pthread_setname_np(pthread_self(), name);
  say("created %s %d %s %d\n", name, (int)syscall(SYS_gettid), function, line);
  sem_post(&announced);
  char byte;
  return (int)read(gate[0], &byte, 1);
}

// A call that creates a thread, its __LINE__ and the end of its function are on one line.
// clang-format off
namespace shop {
struct pool {
  FRAME void start() {
    threads.emplace_back(wait_at_gate, "emplaced", "shop::pool::start", __LINE__); }
};
} // namespace shop

namespace {
const char lambda_name[] = "(anonymous_namespace)::spawn_lambda";
const char async_name[] = "(anonymous_namespace)::spawn_async<";

FRAME void spawn_lambda() {
  threads.push_back(std::thread([] { wait_at_gate("lambda", lambda_name, __LINE__); })); }

template <typename Function>
FRAME std::future<int> spawn_async(Function function) {
  return std::async(std::launch::async, [=] { return function("async", async_name, __LINE__); }); }
} // namespace
// clang-format on

static void *in_library(void *) {
  wait_at_gate("by-library", "library_start", 6); // threads_library.c
  return nullptr;
}

int main() {
  CHECK(pipe(gate) == 0 && sem_init(&announced, 0, 0) == 0);
  shop::pool().start();
  spawn_lambda();
  futures.push_back(spawn_async(wait_at_gate));
  library_start(in_library, nullptr);
  for (int i = 0; i < 4; i++) sem_wait(&announced);
  ready();
  close(gate[1]);
  for (auto &thread : threads) thread.join();
  for (auto &future : futures) CHECK(future.get() == 0);
  return 0;
}
