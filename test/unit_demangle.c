/* Names that gdb shows for mangled ones, and names made to hurt. */
/* links: test/agent_memory_libc.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/symbols/demangle.h"
#include "agent/symbols/large_stack.h"

static int failures;
static char out[DEMANGLE_OUTPUT_MAX];
static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"; /* of <substitution> */

static void expect(const char *name, const char *readable) {
  bool too_costly;
  size_t steps = DEMANGLE_STEPS_MAX;
  size_t length = demangle(name, out, &steps, &too_costly);
  const char *got = length == 0 ? NULL : out;
  bool same = got == NULL ? readable == NULL : readable != NULL && strcmp(got, readable) == 0;
  if (same && !too_costly) return;
  printf("%.80s: \"%s\" instead of \"%s\"\n", name, got == NULL ? "(nothing)" : got,
         readable == NULL ? "(nothing)" : readable);
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

/* Must come back, in time, with nothing or something: it is the stack, the output and the clock
 * that are tested. */
static void survive(char *name) {
  bool too_costly;
  size_t steps = DEMANGLE_STEPS_MAX;
  size_t length = demangle(name, out, &steps, &too_costly);
  if ((too_costly && length > 0) || length >= DEMANGLE_OUTPUT_MAX ||
      (length > 0 && strlen(out) != length)) {
    printf("%.80s...: length %zu\n", name, length);
    failures++;
  }
  free(name);
}

/* A name that a caller must be told of. */
static void expect_too_costly(char *name) {
  bool too_costly;
  size_t steps = DEMANGLE_STEPS_MAX;
  size_t length = demangle(name, out, &steps, &too_costly);
  if (length != 0 || !too_costly) {
    printf("%.80s...: read, or not said to be too costly\n", name);
    failures++;
  }
  free(name);
}

static void cplusplus(void) {
  expect("_Z3fooi", "foo(int)");
  expect("_ZN4deep12_GLOBAL__N_14Node4fillEi", "deep::(anonymous namespace)::Node::fill(int)");
  expect("_ZNSt6vectorIiSaIiEE9push_backEOi",
         "std::vector<int, std::allocator<int> >::push_back(int&&)");
  expect("_ZN3FooC2Ev", "Foo::Foo()");
  expect("_ZN3FooD0Ev", "Foo::~Foo()");
  expect("_ZN4TreeIiEclEi", "Tree<int>::operator()(int)");
  expect("_ZZ10c_functioniENKUliE_clEi", "c_function(int)::{lambda(int)#1}::operator()(int) const");
  expect("_Znwm", "operator new(unsigned long)");
  expect("_ZN3fooEv.isra.0", "foo() [clone .isra.0]");
  expect("_ZTV3Foo", "vtable for Foo");
}

/* Of clang 18 and later, gcc 14 and later; what they mean is in the C++ ABI's document. */
static void newer_cplusplus(void) {
  expect("_Z11constrainedITk1CiEiT_", "int constrained<int>(int)");
  expect("_Z1fITkN1n1CEiEvT_", "void f<int>(int)");
  expect("_Z4argsITk1DIcEiEiT_", "int args<int>(int)");
  expect("_Z4packITpTk1DIiEJidEEiDpT_", "int pack<int, double>(int, double)");
  expect("_ZN3BoxIiE1hITk1DIT_EdEEiS3_", "int Box<int>::h<double>(double)");
  expect("_Z3reqIiQ1CIT_EEiS0_", "int req<int>(int)");
  expect("_Z3reqIiEiT_Q1CIS0_E", "int req<int>(int)");
  expect("_ZN3BoxIiE1gEvQgtstT_Li2E", "Box<int>::g()");
  expect("_Z3reqIiQrqXplfp_Li1ENRN1n1CETT_EEiT_", "int req<int>(int)");
  expect(
      "_Z4req3IiQoorQT__XplfL0p_Li1ERSt7same_asIS0_ETNSt6vectorIS0_SaIS0_EE8iteratorEQ1CIS0_E"
      "XdtfL0p_1xELb1EEiS0_",
      "int req3<int>(int)");
  expect("_Z3reqIiQrQT__XplfL0p_Li1ENEEiS0_", "int req<int>(int)");
  expect("_Z5valueITnDaLi3EEiv", "int value<3>()");
  expect("_Z2ttITtTpTyENSt3__16vectorEEiv", "int tt<std::__1::vector>()");
  expect("_Z2ttITtTk1CE3BoxEiv", "int tt<Box>()");
  expect("_ZNH1A4selfERKS_i", "A::self(this A const&, int)");
  expect("_ZNH1A5tselfIRS_EEiOT_", "int A::tself<A&>(this A&)");
  expect(
      "_ZNSt3__14IterIPKcEC2B3tagIPcTnNS_9enable_ifIXsr14is_convertibleIT_S2_EE5valueEiE4typeE"
      "Li0EEERKNS0_IS7_EE",
      "std::__1::Iter<char const*>::Iter[abi:tag]<char*, 0>(std::__1::Iter<char*> const&)");
  expect("_ZN1AC2B3tagILi0EEEPKc", "A::A[abi:tag]<0>(char const*)");
  expect("_Z3retIiEDk1CT_", "C auto ret<int>(int)");
  expect("_Z3retIiEDK1CT_", "C decltype(auto) ret<int>(int)");
  expect("_Z4bitsDB17_DU8_", "bits(_BitInt(17), unsigned _BitInt(8))");
  expect("_Z1fIu7__decayIiEEvv", "void f<__decay<int> >()");
  expect("_ZZ4mainENKUlTyT_E_clIiEEDaS_",
         "auto main::{lambda<typename $T0>($T0)#1}::operator()<int>(int) const");
  expect("_ZZ4mainENKUlTk1CT_E_clIiEEDaS_",
         "auto main::{lambda<typename $T0>($T0)#1}::operator()<int>(int) const");
  expect("_ZNW3modE1AC1Ev", NULL);
  expect("_Z1fDF16_DF16bDu", "f(_Float16, std::bfloat16_t, char8_t)");
  expect("_Z1fITk", NULL);
  expect("_Z1fITkEvv", NULL);
  expect("_Z1fITpTtTyEEvv", NULL);
  expect("_Z1fIiQrqEvv", NULL);
  expect("_Z1fIiQrqXEEvv", NULL);
  expect("_Z1fIiQrQ", NULL);
  expect("_Z1fDB", NULL);
  expect("_Z1fDB17", NULL);
}

/* A name of 32 kB, as templates of templates have them. */
static void long_names(void) {
  enum { DEPTH = 3000 };
  static char name[DEPTH * 12 + 64], readable[DEPTH * 20 + 64];
  char *at = name + sprintf(name, "_Z4workI"), *to = readable + sprintf(readable, "void work<");
  for (int i = DEPTH - 1; i >= 0; i--) {
    char piece[16];
    int length = sprintf(piece, "Tup%d", i);
    at += sprintf(at, "%d%sI", length, piece);
    to += sprintf(to, "%s<", piece);
  }
  *at++ = *to++ = 'i';
  to += sprintf(to, "nt");
  for (int i = 0; i < DEPTH; i++) {
    at += sprintf(at, "cE");
    to += sprintf(to, ", char>%s", i + 1 < DEPTH ? "" : " ");
  }
  sprintf(at, "Evv");
  sprintf(to, ">()");
  expect(name, readable);
  expect_too_costly(repeated("_Z1fIJ", "i", DEMANGLE_INPUT_MAX, "EEvv")); /* the input */
  expect_too_costly(repeated("_Z1f", "P", 60000, "i")); /* the stack */
  /* the output: each argument names the one before it twice */
  at = name + sprintf(name, "_Z1f1AIiiE");
  for (int i = 0; i < 20; i++) at += sprintf(at, "S_IS%c_S%c_E", digits[i], digits[i]);
  expect_too_costly(strdup(name));
}

/* Short names that would take years, in silence: they write nothing meanwhile. */
static void endless_names(void) {
  /* 62^8 lifetimes in a path that is not shown */
  expect_too_costly(strdup("_RNvMIC0FGzzzzzzzz_EuEl1f"));
  /* looks for a pack in a type that holds the one inside twice, 60 deep */
  char name[512], *at = name + sprintf(name, "_Z1fDp1AI");
  for (int i = 1; i < 60; i++) at += sprintf(at, "S_I");
  at += sprintf(at, "iiE");
  for (int i = 0; i < 36; i++) at += sprintf(at, "S%c_E", digits[i]);
  for (int i = 0; i < 23; i++) at += sprintf(at, "S1%c_E", digits[i]);
  expect_too_costly(strdup(name));
}

static void rust(void) {
  /* of Debian 13's libstd: a hash of four digits only */
  expect("_ZN3std3sys3pal4unix6thread6Thread4join17hddd6ee66166e6e1dE",
         "std::sys::pal::unix::thread::Thread::join");
  expect(
      "_ZN5alloc7raw_vec19RawVec$LT$T$C$A$GT$7reserve21do_reserve_and_handle17h0123456789abcdefE",
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
  static const char alphabet[] = "ZNRIESTXLJPKvidm_0123456789abCDQ$.qrtknpyfBUu";
  unsigned state = 12345;
  for (int round = 0; round < 200000; round++) {
    char name[80];
    size_t length = 3 + (size_t)(round % 70);
    for (size_t i = 0; i < length; i++)
      name[i] = alphabet[(state = state * 1103515245 + 12345) / 65536 % (sizeof alphabet - 1)];
    memcpy(name, round % 2 == 0 ? "_Z" : "_R", 2);
    name[length] = '\0';
    bool too_costly;
    size_t steps = DEMANGLE_STEPS_MAX;
    size_t got = demangle(name, out, &steps, &too_costly);
    if (got > 0 && strlen(out) != got) failures++;
  }
}

static void all(void *unused) {
  (void)unused;
  cplusplus();
  newer_cplusplus();
  long_names();
  endless_names();
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
