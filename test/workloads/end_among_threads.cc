// Ends while other threads of its own run on. One mode a run:
//   destructor  returns from main while a thread uses what a destructor takes away
//   exit        as that, by exit() of another thread than the first
//   late        a thread ends the process some ms after main has returned: too late, as a rule
//   two         two more threads call exit just after the first has
//   many        eight threads call _exit
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <unistd.h>

struct Registry {
  std::map<int, std::string> *names = new std::map<int, std::string>;
  ~Registry() {
    delete names;
    names = nullptr;
  }
};
static Registry registry;
static std::atomic<bool> ends;
static void *volatile kept;

static void wait_ms(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

static void use_it() {
  for (;;) {
    wait_ms(1);
    (*registry.names)[5] = "y";
  }
}

static void end_late() {
  while (!ends) std::this_thread::yield();
  wait_ms(4);
  _exit(33);
}

int main(int, char **arguments) {
  const char *mode = arguments[1];
  kept = malloc(1 << 20);
  if (!strcmp(mode, "destructor") || !strcmp(mode, "exit")) {
    (*registry.names)[5] = "x";
    std::thread(use_it).detach();
  }
  if (!strcmp(mode, "late")) {
    std::atexit([] { ends = true; });
    std::thread(end_late).detach();
  }
  wait_ms(200);
  if (!strcmp(mode, "exit")) std::thread([] { exit(7); }).join();
  if (!strcmp(mode, "two")) {
    for (int i = 0; i < 2; i++)
      std::thread([] {
        while (!ends) std::this_thread::yield();
        wait_ms(2);
        exit(20);
      }).detach();
    ends = true;
    exit(19);
  }
  if (!strcmp(mode, "many")) {
    for (int i = 0; i < 8; i++) std::thread([] { _exit(21); }).detach();
    wait_ms(10000);
  }
  return 0;
}
