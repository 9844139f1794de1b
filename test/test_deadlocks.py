"""Threads that can never go on are told, all of them and no others, with their stacks."""
import os
import re

import goroutine_grammars
import harness
from blocked_threads import is_blocked_in

FUTEX, PARKED = 202, ("pi-0", "pi-1")
STUCK = {
    "behind-0",
    "self",
    "rw-0",
    "rw-1",
    "writers-0",
    "writers-1",
    "orphan",
    "joins",
    "joined",
    "deep-0",
    "deep-1",
    "pi-0",
    "pi-1",
} | {
    "%s-%d" % (name, i)
    for name, count in (("two", 2), ("three", 3), ("ten", 10))
    for i in range(count)
}
INNOCENT = {
    "slow-0",
    "slow-1",
    "timed-0",
    "timed-1",
    "readers-0",
    "readers-1",
    "writer",
    "condition",
    "robust",
}


class Planted:
    def __init__(self, *arguments, **options):
        program = harness.build("deadlocks.c", "-O1", "-fno-optimize-sibling-calls")
        self.host = harness.Host([program, *arguments], **options)
        self.tids = {}

    def all_waiting(self):
        self.host.address
        while not STUCK | INNOCENT <= set(self.tids):
            words = self.host.line().split()
            if words[0] == "thread":
                self.tids[words[1]] = int(words[2])
        for name, tid in self.tids.items():
            if name not in ("slow-1", "robust", "dead", "robust-dead"):
                harness.poll(lambda: is_blocked_in(self.host.pid, tid, FUTEX), name + " waiting")
        return self


def stuck_of(profile):
    """{thread name: (tid, what it waits for, its functions)}"""
    return {
        sample.labels["thread_name"]: (
            sample.labels["tid"],
            sample.labels["waits_for"],
            [frame.function for frame in sample.frames],
        )
        for sample in profile.samples
    }


def test_all_kinds_are_told_and_nobody_else():
    planted = Planted().all_waiting()
    host, tids = planted.host, planted.tids
    profile = host.profile("goroutineleak")
    assert list(profile.sample_types) == [("goroutineleak", "count")]
    stuck = stuck_of(profile)
    assert set(stuck) == STUCK, set(stuck) ^ STUCK
    for name, (tid, waits, functions) in stuck.items():
        assert tid == tids[name]
        assert "act" in functions and (
            "mutex" in functions
            or "reads" in functions
            or "writes" in functions
            or "joins" in functions
        ), functions

    def waits(name):
        return stuck[name][1]

    for name, count in (("two", 2), ("three", 3), ("ten", 10), ("writers", 2), ("deep", 2)):
        for i in range(count):
            holder = tids["%s-%d" % (name, (i + 1) % count)]
            assert re.fullmatch(
                r"(mutex|read-write lock) 0x[0-9a-f]+ held by %d" % holder,
                waits("%s-%d" % (name, i)),
            ), waits("%s-%d" % (name, i))
    assert waits("rw-1").startswith("read-write lock 0x")
    assert waits("rw-1").endswith(" held by %d" % tids["rw-0"])
    assert waits("self").endswith(" held by itself")
    assert waits("orphan").endswith(" held by %d, which has ended" % tids["dead"])
    assert waits("joins") == "the end of thread %d" % tids["joined"]
    assert sorted("refused by the kernel" in waits(name) for name in PARKED) == [False, True]


def test_where_it_is_shown():
    planted = Planted().all_waiting()
    host, tids = planted.host, planted.tids
    names = {tid: name for name, tid in tids.items()}
    whole, only = host.text("goroutine?debug=2"), host.text("deadlock?debug=2")
    cycle = (
        r"# deadlock: %d \(two-0\) waits for mutex 0x[0-9a-f]+ held by %d; "
        r"%d \(two-1\) waits for mutex 0x[0-9a-f]+ held by %d\n# behind it: %d\n"
        % (tids["two-0"], tids["two-1"], tids["two-1"], tids["two-0"], tids["behind-0"])
    )
    page = host.text("")
    for text in (
        whole,
        only,
        page.replace("</a></b>", "")
        .replace("; behind", "\n# behind")
        .replace("<b><a href='goroutineleak?debug=2'>D", "# d")
        .replace("</li>", ""),
    ):
        assert re.search(cycle, text), text
    for text in (whole, only):
        goroutine_grammars.parse(text)
        marked = {
            names.get(int(tid))
            for tid in re.findall(r"^goroutine (\d+) \[[\w. ]+ \(leaked\)[],]", text, re.MULTILINE)
        }
        assert marked == STUCK, marked ^ STUCK
    shown = {names[int(tid)] for tid in re.findall(r"^goroutine (\d+) ", only, re.MULTILINE)}
    assert shown == STUCK, shown ^ STUCK
    assert "<tr><td>%d</td><td><a href='goroutineleak?debug=1'>" % len(STUCK) in page
    text = host.text("goroutineleak?debug=1")
    assert text.startswith("goroutineleak profile: total %d\n" % len(STUCK)), text[:100]
    assert host.profile("deadlock?seconds=1").samples == [], "none more within a second"


CHURN = """
#include <pthread.h>
#include <stdlib.h>
#include "workload.h"
static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t c = PTHREAD_RWLOCK_INITIALIZER;
static volatile int over;
static void *takes(void *n) {
  while (!over) {
    if ((long)n & 1) { /* the other way round, and gives way */
      pthread_mutex_lock(&b);
      if (pthread_mutex_trylock(&a) == 0) pthread_mutex_unlock(&a);
      pthread_mutex_unlock(&b);
    }
    pthread_rwlock_wrlock(&c);
    pthread_mutex_lock(&a);
    pthread_rwlock_unlock(&c);
    pthread_mutex_lock(&b);
    pthread_mutex_unlock(&a);
    pthread_mutex_unlock(&b);
  }
  return n;
}
int main(void) {
  pthread_t threads[8];
  for (long i = 0; i < 8; i++) pthread_create(&threads[i], NULL, takes, (void *)i);
  ready();
  over = 1;
  for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
  return 0;
}
"""


def test_locks_that_change_hands_are_none():
    source = os.path.join(harness.scratch(), "churn.c")
    with open(source, "w") as file:
        file.write(CHURN)
    host = harness.Host([harness.build(source, "-O1", name="deadlock_churn")])
    host.ready()
    held = 0
    for _ in range(40):
        text = host.text("goroutine?debug=2")
        held += text.count(" held by ")
        assert "# deadlock" not in text and "(leaked)" not in text, text
        assert host.profile("goroutineleak").samples == []
    assert held > 0, "nobody waited for a holder: the test looked at nothing"
    assert ">Deadlock<" not in host.text("")
    assert host.finish() == 0


def test_a_child_of_fork():
    """What a thread held that the child does not have is lost; what the forking one held is not."""
    planted = Planted("fork", address="127.0.0.1:%d" % harness.free_port())
    child = 0
    while {"orphan", "heir"} - set(planted.tids) or not child:
        words = planted.host.line().split()
        if words[0] == "thread":
            planted.tids[words[1]] = int(words[2])
        elif words[0] == "child":
            child = int(words[1])
    for name in ("orphan", "heir"):
        harness.poll(lambda: is_blocked_in(child, planted.tids[name], FUTEX), name + " waiting")
    path = "/pid/%d/debug/pprof/goroutineleak" % child
    harness.poll(lambda: planted.host.get(path)[0] == 200, "the child's agent")
    stuck = stuck_of(planted.host.profile(path))
    assert set(stuck) == {"orphan"}, stuck
    assert stuck["orphan"][1].endswith("held by %d, which has ended" % planted.tids["holder"])
    planted.host.go_on()
    planted.host.kill()


PYTHON = """
import ctypes, sys, threading
libc = ctypes.CDLL(None)
a, b = ctypes.create_string_buffer(40), ctypes.create_string_buffer(40)
meet = threading.Barrier(2)
def take(first, second):
    libc.pthread_mutex_lock(first)
    meet.wait()
    libc.pthread_mutex_lock(second)
for pair in ((a, b), (b, a)):
    threading.Thread(target=take, args=pair, daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
sys.stdout.flush()
__import__("os")._exit(0)
"""


def test_in_a_packaged_program():
    host = harness.Host([harness.need("python3"), "-c", PYTHON])
    host.ready()
    harness.poll(lambda: "[sync.Mutex.Lock" in host.text("goroutine?debug=2"), "a lock waited for")
    stuck = harness.poll(lambda: host.profile("goroutineleak").samples, "the deadlock")
    assert len(stuck) == 2 and all("held by" in sample.labels["waits_for"] for sample in stuck)
    assert ">Deadlock<" in host.text("")
    assert host.finish() == 0
