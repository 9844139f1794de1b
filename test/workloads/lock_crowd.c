/* Threads in many short sections of locks that they share, with a journal (lock_journal.h) of every
 * call, waited or not. */
#define _GNU_SOURCE
#include "lock_journal.h"

enum { THREADS = 4, SECTIONS = 500 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER,
                       adaptive = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t semaphore;
static mtx_t c11;
static _Thread_local uint32_t random_state;

static uint32_t draw(uint32_t below) {
  random_state = random_state * 1664525 + 1013904223;
  return (uint32_t)(((uint64_t)random_state * below) >> 32);
}
static void section(void) { pause_us(100 + draw(1500)); }

#define SECTION(name, object, lock, unlock)                                            \
  FRAME static void wait_##name(void) { MEASURED(object, RELEASED, 0, lock, object); } \
  FRAME static void give_##name(void) { MEASURED_RELEASE(object, unlock, object); }    \
  static void section_##name(void) { wait_##name(), section(), give_##name(); }
SECTION(mutex, &mutex, pthread_mutex_lock, pthread_mutex_unlock)
SECTION(adaptive, &adaptive, pthread_mutex_lock, pthread_mutex_unlock)
SECTION(reader, &rwlock, pthread_rwlock_rdlock, pthread_rwlock_unlock)
SECTION(writer, &rwlock, pthread_rwlock_wrlock, pthread_rwlock_unlock)
SECTION(semaphore, &semaphore, sem_wait, sem_post)
SECTION(c11, &c11, mtx_lock, mtx_unlock)

static void crowd(void) {
  static void (*const sections[])(void) = {section_mutex,  section_adaptive, section_reader,
                                           section_reader, section_writer,   section_semaphore,
                                           section_c11};
  random_state = (uint32_t)(this_worker - workers) + 1;
  for (int i = 0; i < SECTIONS; i++) sections[draw(7)]();
}

int main(void) {
  CHECK(sem_init(&semaphore, 0, 1) == 0 && mtx_init(&c11, mtx_plain) == thrd_success);
  for (int i = 0; i < THREADS; i++) order(&workers[i], crowd);
  for (int i = 0; i < THREADS; i++) until_done(&workers[i]);
  journal_print();
  ready();
  return 0;
}
