/* A library for test_symbols.py: one exported, one static function. VERSION changes its build-id
 * and moves its functions. */
#include <stdlib.h>

#ifndef VERSION
#define VERSION 1
#endif

#if VERSION == 2
__attribute__((noinline)) void *replacement_first(size_t size) { return calloc(3, size); }
__attribute__((noinline)) void *replacement_second(size_t size) { return calloc(4, size * 2); }
#endif

static __attribute__((noinline)) void *library_static(size_t size) {
  return malloc(size + VERSION);
}
__attribute__((noinline)) void *library_exported(size_t size) {
  return (char *)library_static(size) + 1;
}
void *library_static_address(void) { return (void *)library_static; }
