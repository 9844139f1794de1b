/* A library that locks wherever the loader lets it: in an IFUNC resolver (through its PLT, perhaps
 * before the wrappers are relocated), in a constructor, in a callback of dl_iterate_phdr, in a
 * destructor. */
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>
#include <stdlib.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t sem; /* 0 */
static int results;

static void lock_everything(void) {
  results |= pthread_mutex_lock(&mutex);
  results |= pthread_mutex_unlock(&mutex);
  results |= pthread_rwlock_rdlock(&rwlock) | pthread_rwlock_unlock(&rwlock);
  results |= pthread_cond_signal(&cond);
  results |= sem_post(&sem) | sem_wait(&sem);
}

static int answer(void) { return results == 0 ? 42 : results; }
/* Runs while this library is being relocated, when others, such as preloaded wrappers, may not be
 * yet. The loader has just made its PLT ready. */
static __attribute__((used)) int (*resolve(void))(void) {
  pthread_mutex_t local = PTHREAD_MUTEX_INITIALIZER;
  sem_t token = {{0}};
  pthread_mutex_lock(&local);
  pthread_mutex_unlock(&local);
  sem_post(&token);
  free(realloc(malloc(10), 5000));
  return answer;
}
static int chosen(void) __attribute__((ifunc("resolve")));
int lockhaz_answer(void) { return chosen(); }

static int look(struct dl_phdr_info *info, size_t size, void *data) {
  (void)info, (void)size, (void)data;
  lock_everything(); /* with the loader's lock held */
  return 0;
}
static void *work(void *unused) {
  for (int i = 0; i < 500; i++) lock_everything();
  return unused;
}
__attribute__((constructor)) static void load(void) {
  pthread_t threads[2];
  lock_everything();
  dl_iterate_phdr(look, NULL);
  for (int i = 0; i < 2; i++) results |= pthread_create(&threads[i], NULL, work, NULL);
  for (int i = 0; i < 2; i++) results |= pthread_join(threads[i], NULL);
}
__attribute__((destructor)) static void unload(void) { lock_everything(); }
