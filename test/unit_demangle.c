/* Names that gdb shows for mangled ones, and names made to hurt. */
/* links: agent/demangle.c agent/large_stack.c test/agent_memory_libc.c */
/* deps: libiberty */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "demangle.h"
#include "large_stack.h"

static int failures;
static char out[DEMANGLE_OUTPUT_MAX];

static void expect(const char *name, const char *readable) {
  size_t length = demangle(name, out);
  const char *got = length == 0 ? NULL : out;
  if ((got == NULL) == (readable == NULL) && (got == NULL || (strcmp(got, readable) == 0 && strlen(got) == length))) return;
  printf("%.80s: \"%s\" instead of \"%s\"\n", name, got == NULL ? "(nothing)" : got, readable == NULL ? "(nothing)" : readable);
  failures++;
}

static char *repeated(const char *head, const char *piece, size_t times, const char *tail) {
  size_t size = strlen(head) + times * strlen(piece) + strlen(tail) + 1;
  char *text = malloc(size);
  strcpy(text, head);
  char *at = text + strlen(head);
  for (size_t i = 0; i < times; i++, at += strlen(piece)) memcpy(at, piece, strlen(piece));
  strcpy(at, tail);
  return text;
}

/* Must come back, in time, with nothing or something: it is the stack, the output and the clock that are tested. */
static void survive(char *name) {
  size_t length = demangle(name, out);
  if (length >= DEMANGLE_OUTPUT_MAX || (length > 0 && strlen(out) != length)) {
    printf("%.80s...: length %zu\n", name, length);
    failures++;
  }
  free(name);
}

static void cplusplus(void) {
  expect("_Z3fooi", "foo(int)");
  expect("_ZN4deep12_GLOBAL__N_14Node4fillEi", "deep::(anonymous namespace)::Node::fill(int)");
  expect("_ZNSt6vectorIiSaIiEE9push_backEOi", "std::vector<int, std::allocator<int> >::push_back(int&&)");
  expect("_ZN3FooC2Ev", "Foo::Foo()");
  expect("_ZN3FooD0Ev", "Foo::~Foo()");
  expect("_ZN4TreeIiEclEi", "Tree<int>::operator()(int)");
  expect("_ZZ10c_functioniENKUliE_clEi", "c_function(int)::{lambda(int)#1}::operator()(int) const");
  expect("_Znwm", "operator new(unsigned long)");
  expect("_ZN3fooEv.isra.0", "foo() [clone .isra.0]");
  expect("_ZTV3Foo", "vtable for Foo");
}

static void rust(void) {
  expect("_ZN5alloc7raw_vec19RawVec$LT$T$C$A$GT$7reserve21do_reserve_and_handle17h0123456789abcdefE",
         "alloc::raw_vec::RawVec<T,A>::reserve::do_reserve_and_handle");
  expect("_ZN4core3ptr42drop_in_place$LT$alloc..string..String$GT$17h0123456789abcdefE",
         "core::ptr::drop_in_place<alloc::string::String>");
  expect("_RNvCs15kBYyAo9fc_7mycrate7example", "mycrate::example");
  expect("_RNvMs_NtCs1234_7mycrate3fooNtB4_3Bar3new", "<mycrate::foo::Bar>::new");
  expect("_RINvNtC3std3mem8align_ofdE", "std::mem::align_of::<f64>");
}

static void not_mangled(void) {
  expect("main", NULL);
  expect("", NULL);
  expect("_", NULL);
  expect("_Z", NULL);
  expect("_R", NULL);
  expect("_ZN", NULL);
  expect("_ZN3foo", NULL);
  expect("__libc_malloc", NULL);
}

static void hostile(void) {
  survive(repeated("_Z1f", "P", 2900, "i"));
  survive(repeated("_Z1f", "P", 100000, "i"));
  survive(repeated("_Z1fI", "1AI", 700, "E"));
  survive(repeated("_Z1fIJ", "iiiiiiii", 200, "EEvDpT_"));
  survive(repeated("_ZN", "1a", 1400, "Ev"));
  survive(repeated("_Z1fIiE", "RT_", 900, ""));
  survive(repeated("_Z1fIiiiiiiiiiiEv", "RT_OT0_KT1_", 250, ""));
  survive(repeated("_Z1fFvi", "S_S0_", 500, ""));
  survive(repeated("_Z1", "X1aIS_S_E", 300, ""));
  survive(repeated("_Z1f", "1AIS_S_E", 300, "")); /* doubles with every piece */
  survive(repeated("_Z1fv", "DpDv", 600, "i"));
  survive(repeated("_Z1fIX", "cl", 1200, "EEvv"));
  survive(repeated("_Z1fIX", "szZ", 900, "EEvv"));
  survive(repeated("_RNv", "Nv", 1400, "C1a1b"));
  survive(repeated("_RI", "RI", 1400, ""));
  survive(repeated("_RINvC1a1b", "TB8_B8_E", 300, "E"));
  survive(repeated("_ZN", "99999999999", 200, "E"));
  survive(repeated("_ZN4$LT$", "$LT$", 600, "17h0123456789abcdefE"));
}

static void random_bytes(void) {
  static const char alphabet[] = "ZNRIESTXLJPKvidm_0123456789abCDQ$.";
  unsigned state = 12345;
  for (int round = 0; round < 200000; round++) {
    char name[80];
    size_t length = 3 + (size_t)(round % 70);
    for (size_t i = 0; i < length; i++) name[i] = alphabet[(state = state * 1103515245 + 12345) / 65536 % (sizeof alphabet - 1)];
    memcpy(name, round % 2 == 0 ? "_Z" : "_R", 2);
    name[length] = '\0';
    size_t got = demangle(name, out);
    if (got > 0 && strlen(out) != got) failures++;
  }
}

static void all(void *unused) {
  (void)unused;
  cplusplus();
  rust();
  not_mangled();
  hostile();
  random_bytes();
}

int main(void) {
  struct large_stack stack = {0};
  if (!large_stack_call(&stack, all, NULL)) return 1;
  large_stack_release(&stack);
  return failures != 0;
}
