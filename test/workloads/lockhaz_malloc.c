/* An allocator of a program's own, preloaded: each call takes a pthread mutex, by which every
 * malloc of a contending program is a wait. Thread-safe bump allocation from a static arena; free
 * forgets. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char arena[512 << 20] __attribute__((aligned(64)));
static size_t used;

static void *take(size_t size, size_t alignment) {
  pthread_mutex_lock(&mutex);
  size_t start = (used + 16 + alignment - 1) & ~(alignment - 1);
  if (size > sizeof arena || start + size > sizeof arena) {
    pthread_mutex_unlock(&mutex);
    errno = ENOMEM;
    return NULL;
  }
  used = start + size;
  pthread_mutex_unlock(&mutex);
  memcpy(arena + start - 8, &size, 8);
  return arena + start;
}
static size_t size_of(void *pointer) {
  size_t size;
  memcpy(&size, (char *)pointer - 8, 8);
  return size;
}

void *malloc(size_t size) { return take(size, 16); }
void free(void *pointer) {
  (void)pointer;
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
}
void *calloc(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return errno = ENOMEM, NULL;
  return take(bytes, 16); /* the arena is zero */
}
void *realloc(void *pointer, size_t size) {
  void *fresh = take(size, 16);
  if (fresh && pointer) memcpy(fresh, pointer, size_of(pointer) < size ? size_of(pointer) : size);
  return fresh;
}
void *memalign(size_t alignment, size_t size) {
  return take(size, alignment < 16 ? 16 : alignment);
}
void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void **out, size_t alignment, size_t size) {
  return (*out = memalign(alignment, size)) ? 0 : ENOMEM;
}
void *valloc(size_t size) { return take(size, 4096); }
void *pvalloc(size_t size) { return take((size + 4095) & ~(size_t)4095, 4096); }
size_t malloc_usable_size(void *pointer) { return pointer ? size_of(pointer) : 0; }
