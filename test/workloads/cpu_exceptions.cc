// Threads that throw, load and unload a library, and allocate, when the process ends:
// cpu_exceptions PLUGIN HOW.
#include <dlfcn.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "workload.h"

static std::atomic<long> caught, loads;

FRAME static int thrower(int depth) {
  std::string text(static_cast<size_t>(depth) * 10 + 20, 'x');
  if (depth == 0) throw std::runtime_error(text);
  return thrower(depth - 1) + static_cast<int>(text.size());
}
static void throw_for_ever() {
  for (;;) {
    try {
      thrower(10);
    } catch (const std::runtime_error &error) {
      CHECK(error.what()[0] == 'x');
      caught++;
    }
  }
}
/* exit() has run every library's destructors: dlopen and dlclose may fail from then on */
static std::atomic<bool> ending;
static void load_for_ever(const char *plugin) {
  for (;;) {
    void *library = dlopen(plugin, RTLD_NOW);
    CHECK(library || ending);
    if (!library) continue;
    auto allocate = reinterpret_cast<void *(*)(size_t)>(dlsym(library, "plugin_allocate"));
    for (int i = 0; i < 10; i++) free(keep(allocate(100)));
    CHECK(dlclose(library) == 0 || ending);
    loads++;
  }
}
static void allocate_for_ever() {
  std::vector<std::string> kept;
  for (unsigned i = 1;; i++) {
    kept.push_back(std::string(i * 7919u % 3000, 'y'));
    if (kept.size() > 200) kept.clear();
  }
}

struct Farewell {
  ~Farewell() { say("destroyed\n"); }
} farewell;

int main(int, char **argv) {
  atexit([] { say("atexit\n"); });
  at_quick_exit([] { say("at_quick_exit\n"); });
  std::thread(throw_for_ever).detach();
  std::thread(throw_for_ever).detach();
  std::thread([argv] { load_for_ever(argv[1]); }).detach();
  std::thread([argv] { load_for_ever(argv[1]); }).detach();
  std::thread(allocate_for_ever).detach();
  ready();
  while (caught < 20000 || loads < 2000) std::this_thread::yield();
  say("threw and loaded\n");
  std::string how = argv[2];
  ending = true;
  if (how == "exit") exit(3);
  if (how == "quick_exit") quick_exit(4);
  if (how == "_exit") _exit(5);
  if (how == "abort") abort();
  return 6;
}
