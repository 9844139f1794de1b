/* A library for hostile_tables.c: its unwind tables fill pages of their own. */
#include <stdint.h>
#include <stdlib.h>

#define FRAME __attribute__((noinline, noclone))

static FRAME void *spoilt_leaf(size_t size) {
  void *block = malloc(size);
  __asm__ volatile("" : "+r"(block) : : "memory");
  return block;
}

void *spoilt_allocate(size_t size) {
  void *block = spoilt_leaf(size);
  __asm__ volatile("" : "+r"(block) : : "memory");
  return block;
}

FRAME void *spoilt_spin(void) {
  volatile uint64_t sum = 0;
  for (int i = 0; i < 200000; i++) sum += (uint64_t)i;
  return NULL;
}

/* Entries enough for some pages of .eh_frame. */
#define ONE(n) \
  void *spoilt_##n(size_t size) { return (char *)spoilt_allocate(size + n) + 1; }
#define FOUR(n) ONE(n##0) ONE(n##1) ONE(n##2) ONE(n##3)
#define TEN(n) FOUR(n) ONE(n##4) ONE(n##5) ONE(n##6) ONE(n##7) ONE(n##8) ONE(n##9)
#define FORTY(n) TEN(n##0) TEN(n##1) TEN(n##2) TEN(n##3)
#define HUNDRED(n) FORTY(n) TEN(n##4) TEN(n##5) TEN(n##6) TEN(n##7) TEN(n##8) TEN(n##9)
HUNDRED(1) HUNDRED(2) HUNDRED(3) HUNDRED(4) HUNDRED(5) HUNDRED(6) HUNDRED(7) HUNDRED(8)
