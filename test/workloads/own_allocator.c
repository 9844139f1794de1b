/* A program with its own allocator linked in and exported: the agent's malloc is never reached, the
 * program's own must serve all. */
#include <errno.h>
#include <pthread.h>
#include <stdalign.h>

#include "workload.h"

static alignas(4096) char arena[64 << 20];
static size_t used;
static long calls;

static void *bump(size_t alignment, size_t size) {
  __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);
  size_t start, end;
  size_t seen = __atomic_load_n(&used, __ATOMIC_RELAXED);
  do {
    start = ((seen + 16 + alignment - 1) & ~(alignment - 1));
    end = start + size;
    if (end > sizeof arena || end < start) {
      errno = ENOMEM;
      return NULL;
    }
  } while (!__atomic_compare_exchange_n(&used, &seen, end, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  *(size_t *)(void *)(arena + start - 16) = size;
  return arena + start;
}

void *malloc(size_t size) { return bump(16, size); }
/* the arena is never reused: zero */
void *calloc(size_t count, size_t size) { return bump(16, count * size); }
void free(void *pointer) {
  /* a foreign pointer */
  if (pointer && ((char *)pointer < arena || (char *)pointer >= arena + sizeof arena)) _exit(96);
}
void *realloc(void *pointer, size_t size) {
  void *fresh = bump(16, size);
  if (pointer && fresh) {
    size_t old = *(size_t *)(void *)((char *)pointer - 16);
    memcpy(fresh, pointer, old < size ? old : size);
  }
  return fresh;
}
int posix_memalign(void **out, size_t alignment, size_t size) {
  return (*out = bump(alignment, size)) ? 0 : ENOMEM;
}
void *aligned_alloc(size_t alignment, size_t size) { return bump(alignment, size); }
void *memalign(size_t alignment, size_t size) { return bump(alignment, size); }
void *valloc(size_t size) { return bump(4096, size); }
void *pvalloc(size_t size) { return bump(4096, (size + 4095) & ~(size_t)4095); }
size_t malloc_usable_size(void *pointer) {
  return pointer ? *(size_t *)(void *)((char *)pointer - 16) : 0;
}

static void *thread_main(void *argument) {
  for (int i = 0; i < 1000; i++) free(keep(malloc((size_t)i)));
  return argument;
}

int main(void) {
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, thread_main, NULL) == 0);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  char *text = strdup("text");
  text = realloc(text, 10000);
  CHECK(strcmp(text, "text") == 0);
  free(text);
  say("own allocator: more than 4000 calls: %s\n", calls > 4000 ? "yes" : "no");
  ready();
  return 0;
}
