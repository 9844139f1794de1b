/* table_memory.h, own mappings: aligned, zeroed, with their bytes when they move, and gone at the
 * end; before and after the program locks its memory, while another thread unlocks them all. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/base/table_memory.h"
#include "check.h"

enum { PAGE = 4096, ALIGNMENT = 64 * 1024, ROUNDS = 300, HELD = 100, THREADS = 3 };

static struct own_mappings mappings;
static atomic_bool ended;

static size_t entered(void) {
  size_t count = 0;
  for (int i = 0; i < OWN_MAPPINGS_MAX; i++) count += mappings.entries[i].start != 0;
  return count;
}

static bool is_all(const char *start, size_t size, char value) {
  for (size_t i = 0; i < size; i += 512)
    if (start[i] != value) return false;
  return start[size - 1] == value;
}

static bool is_mapped(void *start) {
  unsigned char page;
  return mincore(start, PAGE, &page) == 0;
}

static char *add(size_t size) {
  char *start = own_mapping_add(&mappings, size, ALIGNMENT);
  CHECK(start && (uintptr_t)start % ALIGNMENT == 0 && is_all(start, size, 0));
  return start;
}

static char *resize(char *start, size_t size, size_t new_size) {
  char value = (char)size | 1;
  memset(start, value, size);
  char *moved = own_mapping_resize(&mappings, start, size, new_size, ALIGNMENT);
  CHECK(moved && (uintptr_t)moved % ALIGNMENT == 0);
  CHECK(is_all(moved, size < new_size ? size : new_size, value));
  CHECK(new_size <= size || is_all(moved + size, new_size - size, 0));
  return moved;
}

static void *map_and_unmap(void *argument) {
  for (size_t round = 0; round < ROUNDS; round++) {
    size_t size = (1 + round % 40) * PAGE, other = (1 + round * 7 % 50) * PAGE;
    char *start = resize(add(size), size, other);
    own_mapping_remove(&mappings, start, other);
  }
  return argument;
}

static void *unlock_all(void *argument) {
  while (!ended) own_mappings_unlock(&mappings);
  return argument;
}

static void test_threads(void) {
  pthread_t threads[THREADS], unlocking;
  ended = false;
  pthread_create(&unlocking, NULL, unlock_all, NULL);
  for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, map_and_unmap, NULL);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  ended = true;
  pthread_join(unlocking, NULL);
  CHECK(entered() == 0);
}

/* More than the list has room for are as good as others. */
static void test_many(void) {
  enum { MANY = OWN_MAPPINGS_MAX + HELD };
  static char *held[MANY];
  for (int i = 0; i < MANY; i++) held[i] = add(PAGE);
  CHECK(entered() == OWN_MAPPINGS_MAX);
  for (int i = 0; i < MANY; i++) own_mapping_remove(&mappings, held[i], PAGE);
  CHECK(entered() == 0 && !is_mapped(held[0]) && !is_mapped(held[MANY - 1]));
}

static void test_forgotten(void) {
  char *start = add(PAGE);
  own_mapping_forget(&mappings, start);
  CHECK(entered() == 0 && is_mapped(start));
  munmap(start, PAGE);
}

int main(void) {
  for (int locked = 0; locked < 2; locked++) {
    if (locked) own_mappings_stay_unlocked();
    test_threads();
    test_many();
    test_forgotten();
  }
  return failures != 0;
}
