/* sanitizer: thread */
/* A text that changes while two threads read it: each reads one of the texts, whole. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/runtime/shared_text.h"

static struct shared_text shared;
static _Atomic int done, failures;
static const char *const texts[] = {"", "127.0.0.1:6060",
                                    "another process, which does not answer, has its name"};

static void *read_all_the_while(void *argument) {
  char text[SHARED_TEXT_MAX];
  (void)argument;
  while (!atomic_load(&done)) {
    shared_text_read(&shared, text);
    if (strcmp(text, texts[0]) && strcmp(text, texts[1]) && strcmp(text, texts[2])) failures++;
  }
  return NULL;
}

int main(void) {
  pthread_t readers[2];
  char text[SHARED_TEXT_MAX], *longer = calloc(1, SHARED_TEXT_MAX + 2);
  for (int i = 0; i < 2; i++) pthread_create(&readers[i], NULL, read_all_the_while, NULL);
  for (int i = 0; i < 30000; i++) shared_text_write(&shared, texts[i % 3]);
  atomic_store(&done, 1);
  for (int i = 0; i < 2; i++) pthread_join(readers[i], NULL);
  memset(longer, 'x', SHARED_TEXT_MAX + 1);
  shared_text_write(&shared, longer);
  free(longer);
  if (strlen(shared_text_read(&shared, text)) != SHARED_TEXT_MAX - 1) failures++;
  if (failures) printf("%d texts were torn\n", failures);
  return failures != 0;
}
