/* links: test/stub_tables.c test/agent_memory_libc.c */
/* The debug=2 text of a hand-made dump, letter for letter. With an argument it prints a dump for
 * test_goroutine.py to read by both grammars: `hostile`, of names made to break parsers; a number,
 * of names made of random pieces; `many`, of 5,000 threads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/threads/goroutine_names.h"
#include "agent/threads/thread_profile.h"
#include "stub_tables.h"

extern int64_t agent_memory_fail_after;

static int failures;

enum { MAIN = 0x401000, LIB = 0x7f0000001000, JIT = 0x7f2000001000, STACKS = 16 };

/* ---- the process ---- */

#define FUNCTION(offset, name, file, line) \
  {                                        \
    (offset), (offset) + 0x100, 1, {       \
      { name, name, file, line }           \
    }                                      \
  }
#define CPLUSPLUS(offset, mangled, name, file, line) \
  {                                                  \
    (offset), (offset) + 0x100, 1, {                 \
      { name, mangled, file, line }                  \
    }                                                \
  }

static struct stub_symbol symbols[] = {
    FUNCTION(MAIN, "main", "/src/main.c", 10),
    FUNCTION(MAIN + 0x100, "spawn_workers", "/src/main.c", 12),
    FUNCTION(MAIN + 0x200, "worker_main", "/src/worker.c", 57),
    {MAIN + 0x300,
     MAIN + 0x400,
     2,
     {{"inner(int)", "_Z5inneri", "/src/inner.h", 3},
      {"outer(int)", "_Z5outeri", "/src/queue.cpp", 40}}},
    {MAIN + 0x400,
     MAIN + 0x500,
     2,
     {{"std::thread::thread<void (&)(), , void>(void (&)())", "_ZNSt6threadC1I",
       "/usr/include/c++/12/bits/std_thread.h", 143},
      {"(anonymous namespace)::Pool::start(unsigned long, int)", "_ZN12_GLOBAL__N_14Pool5startEmi",
       "/src/pool.cc", 99}}},
    FUNCTION(LIB, "__epoll_wait", NULL, 0),
    CPLUSPLUS(LIB + 0x100, "_ZNSt6thread15_M_start_threadE",
              "std::thread::_M_start_thread(std::unique_ptr<State>, void (*)())", NULL, 0),
    FUNCTION(LIB + 0x200, "__GI___libc_read", "../sysdeps/unix/sysv/linux/read.c", 26),
    FUNCTION(LIB + 0x300, "__futex_abstimed_wait_common64", NULL, 0),
    FUNCTION(LIB + 0x400, "syscall", "../sysdeps/unix/sysv/linux/x86_64/syscall.S", 38),
    FUNCTION(JIT, "Lcom/shop/Cart;::total", NULL, 0),
};

static const struct mapping mappings[] = {
    {.start = MAIN, .limit = MAIN + 0x10000, .bias = 0, .path = "/nonexistent/demo"},
    {.start = LIB,
     .limit = LIB + 0x10000,
     .bias = LIB - 0x1000,
     .path = "/nonexistent/lib foo.so.1",
     .deleted = true},
    {.start = JIT, .limit = JIT + 0x10000, .kind = MAPPING_ANONYMOUS, .path = ""},
};

enum {
  IN_MAIN = MAIN + 0x10,
  IN_SPAWN = MAIN + 0x145,
  IN_WORKER = MAIN + 0x21b,
  IN_QUEUE = MAIN + 0x311,
  IN_POOL = MAIN + 0x421,
  IN_EPOLL = LIB + 0x4f,
  IN_START = LIB + 0x1a1,
  IN_READ = LIB + 0x20e,
  IN_FUTEX = LIB + 0x333,
  IN_SYSCALL = LIB + 0x411,
  NAMELESS = LIB + 0x1235,
  IN_JIT = JIT + 0x21,
  NO_MAPPING = 0xdead0001
};

static struct stack_view stacks[STACKS] = {
    {2, 1, (const uint64_t[]){IN_SPAWN, IN_MAIN}},
    {3, 1, (const uint64_t[]){IN_START, IN_POOL, IN_MAIN}},
    {2, 1, (const uint64_t[]){IN_START, STACK_TRUNCATED_MEMORY}},
    {1, 1, (const uint64_t[]){STACK_TRUNCATED_MEMORY}},
    {2, 1, (const uint64_t[]){NAMELESS, IN_MAIN}},
};

static struct mappings set;
static struct thread_dump dump;

static void open_dump(struct dumped_thread *threads, size_t count) {
  memset(&stub, 0, sizeof stub);
  stub.symbols = symbols;
  stub.symbol_count = sizeof symbols / sizeof *symbols;
  stub.stacks = stacks;
  stub.stack_count = STACKS;
  stub.mapping_count = sizeof mappings / sizeof *mappings;
  memcpy(stub.mappings, mappings, sizeof mappings);
  set = (struct mappings){stub.mapping_count, stub.mappings};
  dump = (struct thread_dump){
      .count = count, .threads = threads, .mappings = &set, .symbols = symbolizer_open()};
}

static char *text_of_dump(void) {
  struct memory_sink sink;
  memory_sink_start(&sink);
  if (!goroutine_text_write(&dump, &sink.base)) abort();
  symbolizer_close(dump.symbols);
  return sink.bytes;
}

#define FRAMES(...)                                                                                \
  .frame_count = sizeof((uint64_t[]){__VA_ARGS__}) / 8, .frames = (const uint64_t[]){__VA_ARGS__}, \
  .epoch = 1
#define IDLE .syscall = -1, .blocked_nanoseconds = -1
static const int64_t SECOND = 1000000000;

/* ---- letter for letter ---- */

static void compare(const char *what, const char *got, const char *want) {
  if (strcmp(got, want) == 0) return;
  failures++;
  size_t same = 0;
  while (got[same] == want[same]) same++;
  fprintf(stderr, "FAILED %s at byte %zu: got\n%s\nwant\n%s\n", what, same, got, want);
}

static void test_records(void) {
  struct dumped_thread threads[] = {
      {.tid = 4240,
       .name = "demo",
       .is_main = true,
       .state = "running",
       IDLE,
       FRAMES(IN_MAIN, NAMELESS),
       .creation_stack = 1},
      {.tid = 4242,
       .name = "worker-1",
       .state = "IO wait",
       .blocked_nanoseconds = 200 * SECOND,
       .syscall = SYS_epoll_pwait,
       .arguments = {5, 0x7ffe0010, 0x10, 0xabcdefffffffff, 0x77, 0x88},
       .waits_for = "fd 5 (socket:[1234])",
       FRAMES(IN_EPOLL, IN_WORKER),
       .creator = 4240,
       .creation_stack = 1},
      {.tid = 4243,
       .name = "po\nol",
       .state = "sync.Mutex.Lock",
       .blocked_nanoseconds = 60 * SECOND,
       .syscall = SYS_futex,
       .arguments = {1},
       .waits_for = "futex 0x7f31 held by 4242",
       FRAMES(IN_FUTEX, IN_QUEUE, IN_JIT, STACK_TRUNCATED_NO_UNWIND),
       .creator = 4242,
       .creation_stack = 2},
      {.tid = 4244,
       .name = "",
       .state = "syscall",
       .blocked_nanoseconds = 60 * SECOND - 1,
       .syscall = SYS_read,
       .arguments = {3, 0x7f00, 4096},
       FRAMES(IN_READ, NO_MAPPING, STACK_TRUNCATED_MEMORY),
       .creation_stack = 3},
      {.tid = 4245,
       .name = "x",
       .state = "syscall",
       .blocked_nanoseconds = 0,
       .syscall = SYS_futex,
       FRAMES(IN_SYSCALL, STACK_TRUNCATED_DEPTH),
       .creator = 4240,
       .creation_stack = 4},
      {.tid = 4246,
       .name = "y",
       .state = "running",
       IDLE,
       .waits_for = "another 3.500 s",
       .not_read = "it runs (on a CPU) and did not answer in 50 ms",
       .creator = 4240,
       .creation_stack = 5},
      {.tid = 4247,
       .name = "z",
       .state = "runnable",
       IDLE,
       FRAMES(STACK_TRUNCATED_MEMORY),
       .creator = 4240},
  };
  static const char records[] =
      "\n"
      "goroutine 4240 [running]:\n"
      "main(...)\n"
      "\t/src/main.c:10 +0xf\n"
      "lib_foo.so.1+0x2234(...)\n"
      "\t??:0\n"
      "\n"
      "goroutine 4242 [IO wait, 3 minutes]:\n"
      "__epoll_wait(0x5, 0x7ffe0010, 0x10, 0xffffffff)\n"
      "\t??:0 +0x4e\n"
      "worker_main(...)\n"
      "\t/src/worker.c:57 +0x1a\n"
      "created by spawn_workers in goroutine 4240\n"
      "\t/src/main.c:12 +0x44\n"
      "\n"
      "goroutine 4243 [sync.Mutex.Lock, 1 minutes]:\n"
      "__futex_abstimed_wait_common64(...)\n"
      "\t??:0 +0x32\n"
      "inner(...)\n"
      "\t/src/inner.h:3 .c:3\n"
      "outer(...)\n"
      "\t/src/queue.cpp:40 .c:40 +0x10\n"
      "Lcom\xe2\x88\x95shop\xe2\x88\x95"
      "Cart;::total(...)\n"
      "\t??:0 +0x20\n"
      "[truncated: no unwind information](...)\n"
      "\t??:0\n"
      "created by (anonymous_namespace)::Pool::start in goroutine 4242\n"
      "\t/src/pool.cc:99 .c:99 +0x20\n"
      "\n"
      "goroutine 4244 [syscall]:\n"
      "__GI___libc_read(0x3, 0x7f00, 0x1000)\n"
      "\t../sysdeps/unix/sysv/linux/read.c:26 +0xd\n"
      "0xdead0000(...)\n"
      "\t??:0\n"
      "[truncated: stack memory cannot be read](...)\n"
      "\t??:0\n"
      "created by std::thread::_M_start_thread\n"
      "\t??:0 +0xa0\n"
      "\n"
      "goroutine 4245 [syscall]:\n"
      "syscall(0xca, ...)\n"
      "\t../sysdeps/unix/sysv/linux/x86_64/syscall.S:38 .c:38 +0x10\n"
      "...additional frames elided...\n"
      "\n"
      "goroutine 4246 [running]:\n"
      "[it runs (on a CPU) and did not answer in 50 ms](...)\n"
      "\t??:0\n"
      "created by lib_foo.so.1+0x2234 in goroutine 4240\n"
      "\t??:0\n"
      "\n"
      "goroutine 4247 [runnable]:\n"
      "[not read](...)\n"
      "\t??:0\n";
  open_dump(threads, sizeof threads / sizeof *threads);
  char *text = text_of_dump(), want[sizeof records + 1024];
  snprintf(want, sizeof want,
           "# pid %d comm unit_goroutine_; 4240=demo, 4242=worker-1, 4243=po?ol, 4244=, 4245=x, "
           "4246=y, 4247=z\n"
           "# 4242 waits for fd 5 (socket:[1234])\n"
           "# 4243 waits for futex 0x7f31 held by 4242\n"
           "# 4246 waits for another 3.500 s\n%s",
           (int)getpid(), records);
  compare("records", text, want);
  free(text);
}

static void test_deadlocks(void) {
#define NEEDS(holder_tid) .need = { NEED_MUTEX, holder_tid, 0x7000 + holder_tid, 0, false }
  struct dumped_thread threads[] = {
      {.tid = 10,
       .name = "a\nb",
       .state = "sync.Mutex.Lock",
       IDLE,
       FRAMES(IN_MAIN),
       NEEDS(12),
       .stuck = STUCK_IN_CYCLE,
       .deadlock = 1},
      {.tid = 11,
       .name = "behind",
       .state = "sync.Mutex.Lock",
       IDLE,
       FRAMES(IN_MAIN),
       NEEDS(10),
       .stuck = STUCK_BEHIND,
       .deadlock = 1},
      {.tid = 12,
       .name = "c",
       .state = "sync.Mutex.Lock",
       .blocked_nanoseconds = 60 * SECOND,
       .syscall = -1,
       FRAMES(IN_MAIN),
       NEEDS(10),
       .stuck = STUCK_IN_CYCLE,
       .deadlock = 1},
      {.tid = 13,
       .name = "d",
       .state = "sync.Mutex.Lock",
       IDLE,
       FRAMES(IN_MAIN),
       NEEDS(9),
       .stuck = STUCK_AT_END,
       .deadlock = 2},
      {.tid = 14, .name = "e", .state = "sleep", IDLE, FRAMES(IN_MAIN)}};
  open_dump(threads, sizeof threads / sizeof *threads);
  dump.deadlock_count = 2;
  char *text = text_of_dump();
  const char *at = strstr(text, "# deadlock"), *end = strstr(text, "\ngoroutine 10");
  char found[1024];
  snprintf(found, sizeof found, "%.*s", (int)(end - at), at);
  compare("deadlocks", found,
          "# deadlock: 10 (a?b) waits for mutex 0x700c held by 12; 12 (c) waits for mutex 0x700a "
          "held by 10\n"
          "# behind it: 11\n"
          "# deadlock: 13 (d) waits for mutex 0x7009 held by 9, which has ended\n");
  static const char *const headers[] = {
      "goroutine 10 [sync.Mutex.Lock (leaked)]:\n", "goroutine 11 [sync.Mutex.Lock (leaked)]:\n",
      "goroutine 12 [sync.Mutex.Lock (leaked), 1 minutes]:\n", "goroutine 14 [sleep]:\n"};
  for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
    if (!strstr(text, headers[i])) compare("header", text, headers[i]);
  dump.deadlock_count = 0;
  free(text);
}

/* ---- names ---- */

static const struct {
  const char *function, *call, *creator;
  bool mangled, library;
} names[] = {
    {"worker_main", "worker_main", "worker_main", false, false},
    {"foo(int)", "foo", "foo", true, false},
    {"foo(int)", "foo(int)", "foo(int)", false, false},
    {"ns::Foo::~Foo()", "ns::Foo::~Foo", "ns::Foo::~Foo", true, false},
    {"ns::Foo::get(void (*)(int (*)())) const &", "ns::Foo::get", "ns::Foo::get", true, false},
    {"foo() [clone .isra.0]", "foo", "foo", true, false},
    {"void std::__invoke_impl<void, void (*)(int (*)())>(std::__invoke_other, void (*&&)(int "
     "(*)()))",
     "std::__invoke_impl<void, void (*)(int {*}{})>", "std::__invoke_impl<void,void(*)(int{*}{})>",
     true, true},
    {"std::vector<int, std::allocator<int> > shop::spawn<int>(int)", "shop::spawn<int>",
     "shop::spawn<int>", true, false},
    {"unsigned char const* shop::f<unsigned long>(int)", "shop::f<unsigned long>",
     "shop::f<unsigned_long>", true, false},
    {"c_function(int)::{lambda(int)#1}::operator()(int) const",
     "c_function(int)::{lambda(int)#1}::operator()", "c_function(int)::{lambda(int)#1}::operator()",
     true, false},
    {"A::f(int) const::{lambda(void (*)(int))#1}::operator()(void (*)(int)) const",
     "A::f(int) const::{lambda(void {*}{int})#1}::operator()",
     "A::f(int)const::{lambda(void{*}{int})#1}::operator()", true, false},
    {"operator()", "operator()", "operator()", false, false},
    {"Tree::operator()() const", "Tree::operator()", "Tree::operator()", true, false},
    {"Big::operator/(Big const&)", "Big::operator\xe2\x88\x95", "Big::operator\xe2\x88\x95", true,
     false},
    {"Big::operator%=(Big const&)",
     "Big::operator\xef\xbc\x85=", "Big::operator\xef\xbc\x85=", true, false},
    {"Big::operator<(Big const&) const", "Big::operator<", "Big::operator<", true, false},
    {"Big::operator->() const", "Big::operator->", "Big::operator->", true, false},
    {"std::ostream& operator<< <int>(std::ostream&, Box<int> const&)", "operator<< <int>",
     "operator<<<int>", true, false},
    {"bool f<&Big::operator< >(Big)", "f<&Big::operator< >", "f<&Big::operator<>", true, false},
    {"operator new(unsigned long)", "operator new", "operator_new", true, false},
    {"Big::operator unsigned long() const", "Big::operator unsigned long",
     "Big::operator_unsigned_long", true, false},
    {"(anonymous namespace)::run(int)", "(anonymous namespace)::run", "(anonymous_namespace)::run",
     true, false},
    {"non-virtual thunk to Foo::bar(int)", "non-virtual thunk to Foo::bar",
     "non-virtual_thunk_to_Foo::bar", true, false},
    {"decltype ((f)(g)) std::__invoke<F, G>(F&&, G&&)", "std::__invoke<F, G>", "std::__invoke<F,G>",
     true, true},
    {"std::thread::_M_start_thread(int)", "std::thread::_M_start_thread",
     "std::thread::_M_start_thread", true, true},
    {"<std::thread::Builder>::spawn_unchecked_::<F, ()>",
     "<std::thread::Builder>::spawn_unchecked_::<F, ()>",
     "<std::thread::Builder>::spawn_unchecked_::<F,()>", true, true},
    {"<alloc::boxed::Box<dyn FnOnce(A) -> B> as core::ops::FnOnce<A>>::call_once",
     "<alloc::boxed::Box<dyn FnOnce(A) -> B> as core::ops::FnOnce<A>>::call_once",
     "<alloc::boxed::Box<dyn_FnOnce(A)->B>as_core::ops::FnOnce<A>>::call_once", true, true},
    {"<std::vec::Vec<T> as shop::Spawn>::go", "<std::vec::Vec<T> as shop::Spawn>::go",
     "<std::vec::Vec<T>as_shop::Spawn>::go", true, false},
    {"core::ops::function::FnOnce::call_once{{vtable.shim}}",
     "core::ops::function::FnOnce::call_once{{vtable.shim}}",
     "core::ops::function::FnOnce::call_once{{vtable.shim}}", true, true},
    {"g_thread_new", "g_thread_new", "g_thread_new", false, true},
    {"created by nobody", "created_by_nobody", "created_by_nobody", false, false},
    {"LazyCompile:~run /srv/app.js:12",
     "LazyCompile:~run \xe2\x88\x95srv\xe2\x88\x95"
     "app.js:12",
     "LazyCompile:~run\xe2\x88\x95srv\xe2\x88\x95"
     "app.js:12",
     false, false},
    {"a\n)b(\xff\t", "a?}b{??", "a?}b{??", false, false},
    {"((((", "{{{{", "{{{{", false, false},
    {")", "}", "}", false, false},
    {"  ", "?", "?", false, false},
    {"", "?", "?", false, false},
    {"(", "{", "{", true, false},
    {"()", "()", "()", true, false},
};

static void check_name(const char *function, bool mangled, enum goroutine_name_form form,
                       const char *want) {
  struct growing_text out = {0};
  struct symbol_frame frame = {function, mangled ? "_Z" : function, NULL, 0};
  goroutine_name_write(&out, &frame, form);
  growing_text_bytes(&out, "", 1);
  compare(function, out.bytes, want);
  growing_text_release(&out);
}

static void test_names(void) {
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    check_name(names[i].function, names[i].mangled, GOROUTINE_NAME_OF_CALL, names[i].call);
    check_name(names[i].function, names[i].mangled, GOROUTINE_NAME_OF_CREATOR, names[i].creator);
    struct symbol_frame frame = {names[i].function, names[i].mangled ? "_Z" : names[i].function,
                                 NULL, 0};
    if (goroutine_is_thread_library(&frame) == names[i].library) continue;
    failures++;
    fprintf(stderr, "FAILED library: %s\n", names[i].function);
  }
}

/* ---- dumps for the parsers ---- */

static const char *const paths[] = {"/src/a.c",
                                    "/src/a.go",
                                    "/src/a.s",
                                    "/src/a.cc",
                                    "/src/a b.rs",
                                    "/src/12:34/x.c",
                                    "C:7.h",
                                    "x",
                                    "<built-in>",
                                    " /src/a.hpp",
                                    "/\xff\n\t/y.cpp",
                                    ".c",
                                    "s",
                                    ":",
                                    "??",
                                    ""};

static void hostile(void) {
  enum {
    NAMES = sizeof names / sizeof *names,
    PATHS = sizeof paths / sizeof *paths,
    LONG = 100000
  };
  static struct stub_symbol all[NAMES + PATHS + 2];
  static struct dumped_thread threads[NAMES + PATHS + 2];
  static uint64_t frames[NAMES + PATHS + 2][3];
  static struct stack_view creators[NAMES + PATHS + 2];
  static char long_name[LONG + 1], long_path[LONG + 3];
  memset(long_name, '(', LONG / 2);
  memset(long_name + LONG / 2, ')', LONG / 2);
  memset(long_path, '/', LONG);
  strcpy(long_path + LONG, ".c");
  size_t count = 0;
  for (; count < NAMES + PATHS + 2; count++) {
    bool name = count < NAMES, path = !name && count < NAMES + PATHS;
    const char *function = name ? names[count].function : count == NAMES + PATHS ? long_name : "f";
    const char *file = path ? paths[count - NAMES] : count > NAMES + PATHS ? long_path : "/src/x.c";
    all[count] = (struct stub_symbol){
        MAIN + count * 0x20,
        MAIN + (count + 1) * 0x20,
        1,
        {{function, name && names[count].mangled ? "_Z" : function, file, (uint32_t)count}}};
    frames[count][0] = frames[count][1] = MAIN + count * 0x20 + 9;
    frames[count][2] = STACK_TRUNCATED_DEPTH;
    creators[count] = (struct stack_view){1, 1, frames[count]};
    threads[count] = (struct dumped_thread){.tid = 100 + (int32_t)count,
                                            .name = "t",
                                            .state = "sleep",
                                            IDLE,
                                            .frame_count = 3,
                                            .frames = frames[count],
                                            .epoch = 1,
                                            .creator = 100,
                                            .creation_stack = (uint32_t)count + 1};
  }
  open_dump(threads, count);
  stub.symbols = all;
  stub.stacks = creators;
  stub.symbol_count = stub.stack_count = (uint32_t)count;
  char *text = text_of_dump();
  fputs(text, stdout);
  free(text);
}

/* Names and paths of random pieces. */
static void random_names(unsigned seed) {
  static const char *const pieces[] = {"(",           ")",
                                       "<",           ">",
                                       "{",           "}",
                                       "[",           "]",
                                       " ",           " const",
                                       "operator",    "new",
                                       "->",          "&",
                                       "*",           "::",
                                       ", ",          ":",
                                       "7",           "/",
                                       "%",           "~",
                                       "+",           ".",
                                       ".c",          "std",
                                       "f",           "_",
                                       "\xff",        "\n",
                                       "\t",          "...",
                                       "lambda",      "&&",
                                       "=",           "0x1",
                                       "\xc3\xa9",    "(anonymous namespace)",
                                       "created by ", "goroutine 1 ["};
  enum { COUNT = 2000, PIECES = sizeof pieces / sizeof *pieces, LONGEST = 12, TEXT = LONGEST * 32 };
  static struct stub_symbol all[COUNT];
  static char texts[COUNT][2][TEXT];
  static uint64_t frames[COUNT][1];
  static struct stack_view creators[COUNT];
  static struct dumped_thread threads[COUNT];
  srand(seed);
  for (int i = 0; i < COUNT; i++) {
    for (int t = 0; t < 2; t++)
      for (int n = rand() % LONGEST; n > 0; n--) strcat(texts[i][t], pieces[rand() % PIECES]);
    all[i] = (struct stub_symbol){
        MAIN + i * 0x20,
        MAIN + (i + 1) * 0x20,
        1,
        {{texts[i][0], rand() % 2 ? "_Z" : texts[i][0], texts[i][1], (uint32_t)i}}};
    frames[i][0] = MAIN + (uint64_t)i * 0x20 + 9;
    creators[i] = (struct stack_view){1, 1, frames[i]};
    threads[i] = (struct dumped_thread){.tid = 100 + i,
                                        .name = "t",
                                        .state = "sleep",
                                        IDLE,
                                        .frame_count = 1,
                                        .frames = frames[i],
                                        .epoch = 1,
                                        .creator = 100,
                                        .creation_stack = (uint32_t)i + 1};
  }
  open_dump(threads, COUNT);
  stub.symbols = all;
  stub.stacks = creators;
  stub.symbol_count = stub.stack_count = COUNT;
  char *text = text_of_dump();
  fputs(text, stdout);
  free(text);
}

static void many(size_t count) {
  static const uint64_t frames[] = {IN_MAIN, IN_WORKER, IN_QUEUE, IN_SPAWN};
  struct dumped_thread *threads = calloc(count, sizeof *threads);
  for (size_t i = 0; i < count; i++)
    threads[i] = (struct dumped_thread){.tid = 100000 + (int32_t)i,
                                        .name = "worker-of-pool",
                                        .state = "semacquire",
                                        .blocked_nanoseconds = 0,
                                        .syscall = -1,
                                        .frame_count = 4,
                                        .frames = frames,
                                        .epoch = 1,
                                        .creator = 100000,
                                        .creation_stack = i ? 1 + i % 2 : 0,
                                        .is_main = i == 0,
                                        .waits_for = "futex 0x1"};
  open_dump(threads, count);
  char *text = text_of_dump();
  fputs(text, stdout);
  free(text);
  /* four frames; the creators' stacks need two and one more */
  if (stub.resolved > 8) {
    failures++;
    fprintf(stderr, "FAILED: %u look-ups for %zu threads\n", stub.resolved, count);
  }
  free(threads);
}

static void test_shortage(void) {
  struct dumped_thread threads[] = {
      {.tid = 1,
       .name = "a",
       .state = "sleep",
       IDLE,
       FRAMES(IN_EPOLL, IN_WORKER),
       .creator = 2,
       .creation_stack = 1},
      {.tid = 2, .name = "b", .state = "sleep", IDLE, .not_read = "gone"}};
  for (int64_t n = 0; n < 40; n++) {
    struct memory_sink sink;
    memory_sink_start(&sink);
    open_dump(threads, 2);
    agent_memory_fail_after = n;
    bool ok = goroutine_text_write(&dump, &sink.base), spared = agent_memory_fail_after >= 0;
    agent_memory_fail_after = INT64_MAX;
    if (ok != spared) {
      failures++;
      fprintf(stderr, "FAILED: allocation %d, %s\n", (int)n, ok ? "done" : "not done");
    }
    memory_sink_release(&sink);
    sink.refuse_after = 10;
    symbolizer_close(dump.symbols);
  }
  struct memory_sink sink;
  memory_sink_start(&sink);
  sink.refuse_after = 10;
  open_dump(threads, 2);
  if (goroutine_text_write(&dump, &sink.base)) failures++;
  memory_sink_release(&sink);
  symbolizer_close(dump.symbols);
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "hostile") == 0) hostile();
  else if (argc > 1 && strcmp(argv[1], "many") == 0) many(5000);
  else if (argc > 1) random_names((unsigned)atoi(argv[1]));
  else test_records(), test_names(), test_shortage(), test_deadlocks();
  return failures != 0;
}
