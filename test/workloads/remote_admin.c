/* A program that would notice what a TLS library in its process does to what all of it share:
 * pthread keys, the environment, static TLS, descriptors. It has keys of both generations that the
 * second C library's may have, and none has a value on any thread but main.
 *   pause    stops the agent by unshare(CLONE_NEWUSER), and lets it start again
 *   churn    setenv and dlopen for as long as it is asked to */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "workload.h"

enum { KEYS = 32 };
static _Atomic int destructor_calls;
static _Atomic int stop;
static char own_value;

static void destroy(void *value) {
  (void)value;
  destructor_calls++;
}

FRAME void *churned_block(size_t size) { return keep(malloc(size)); }

static void *churn(void *ignored) {
  char name[32], value[64];
  (void)ignored;
  for (unsigned i = 0; !stop; i++) {
    snprintf(name, sizeof name, "NAME_%u", i % 50);
    snprintf(value, sizeof value, "%.*u", (int)(i % 60), i);
    setenv(name, value, 1);
    if (i % 3 == 0) unsetenv(name);
    void *library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
    CHECK(library && dlsym(library, "sin"));
    dlclose(library);
    CHECK(dlopen("libnothing-of-this-name.so", RTLD_NOW) == NULL &&
          strstr(dlerror(), "libnothing-of-this-name.so"));
    free(churned_block(5000));
    usleep(50); /* the loader's lock goes to whoever asks first */
  }
  return NULL;
}

int main(int argc, char **argv) {
  pthread_key_t keys[KEYS];
  pthread_t thread;
  for (int i = 0; i < KEYS; i++) CHECK(pthread_key_create(&keys[i], destroy) == 0);
  for (int i = 0; i < KEYS; i += 2) CHECK(pthread_key_delete(keys[i]) == 0);
  for (int i = 0; i < KEYS; i += 2) CHECK(pthread_key_create(&keys[i], destroy) == 0);
  for (int i = 0; i < KEYS; i++) CHECK(pthread_setspecific(keys[i], &own_value) == 0);
  const char *what = argc > 1 ? argv[1] : "";
  if (!strcmp(what, "churn")) CHECK(pthread_create(&thread, NULL, churn, NULL) == 0);
  for (int turn = 0; ready(); turn++) {
    if (!strcmp(what, "pause")) {
      int result = unshare(CLONE_NEWUSER), error = errno;
      say("unshare %d %d\n", result, result ? error : 0);
    }
  }
  stop = 1;
  if (!strcmp(what, "churn")) pthread_join(thread, NULL);
  for (int i = 0; i < KEYS; i++) CHECK(pthread_getspecific(keys[i]) == &own_value);
  say("destructors %d\n", destructor_calls);
  return 0;
}
