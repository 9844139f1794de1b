/* What dlmopen's second copy of the C library shares with the first, and what is done about it:
 *  - the loader, whose own memory comes from the first one's malloc: on an agent thread from the
 * startup arena (startup.h), about 20 blocks for ever. Not from the program's allocator: that may
 * keep a pthread key on this thread, which OpenSSL would take for one of its own;
 *  - struct pthread, with the values of pthread keys, of which each copy numbers its own. OpenSSL's
 * key 0 is the program's key 0 on this thread, whose destructor would be called with OpenSSL's
 * pointer at the thread's end: so OpenSSL's values are cleared before. And where a library sets a
 * key on every thread (AddressSanitizer's does), OpenSSL would find its pointer: so such a key's
 * number is taken from OpenSSL. All below 32: there no memory is attached to a value, which the
 * other copy's free would get;
 *  - static TLS: 144 bytes out of what glibc keeps for such namespaces (rtld.nns);
 *  - environ's strings and array, as they were. The program may free the array with setenv: so the
 * copy is given another;
 *  - the process's exit, in which OpenSSL's cleanup has no part (NO_ATEXIT), and descriptors,
 * memory and signals: the thread's. errno is another variable there. In a forked child this file's
 * variables are cleared, and OpenSSL's memory is unmapped: it is loaded once more, in another of
 * glibc's 16 namespaces. Never unloaded: libcrypto cannot be.
 */
#include "tls_library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "shim/base/raw_syscall.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"

enum {
  OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS = 0x1,
  OPENSSL_INIT_NO_LOAD_CONFIG = 0x80,
  OPENSSL_INIT_NO_ATEXIT = 0x80000,
  OPENSSL_INIT_NO_LOAD_SSL_STRINGS = 0x100000
};

struct tls_library tls_library;

static void *handle; /* of libssl; NULL: not loaded. The TLS thread's */
static void (*set_up_ctype)(void);
static bool unusable; /* loaded, but something about it is wrong */
static uint32_t foreign_keys,
    withheld_keys; /* one bit a key: set on this thread by others; that OpenSSL cannot have */
enum { KEYS = 32, FOREIGN_KEYS_MAX = 16, LOADING_NAPS_MAX = 2000 };
static _Atomic bool loading;

static void *crypto_malloc(size_t size, const char *file, int line) {
  (void)file, (void)line;
  return agent_malloc(size);
}

static void crypto_free(void *pointer, const char *file, int line) {
  (void)file, (void)line;
  agent_free(pointer);
}

static void *crypto_realloc(void *pointer, size_t size, const char *file, int line) {
  (void)file, (void)line;
  if (size) return agent_realloc(pointer, size);
  agent_free(pointer);
  return NULL;
}

static void *load(void) {
  static const char *const names[] = {"libssl.so.3", "libssl.so.1.1"};
  void *loaded = NULL;
  atomic_store(&loading, true);
  for (size_t i = 0; i < sizeof names / sizeof *names && !loaded; i++)
    loaded = dlmopen(LM_ID_NEWLM, names[i], RTLD_NOW | RTLD_LOCAL);
  if (loaded) {
    /* UTC: else the first date that is compared reads /etc/localtime, through the second copy's
     * stdio. */
    static char *const environment[] = {"TZ=UTC0", NULL};
    char *const **environ_there = dlsym(loaded, "environ");
    if (environ_there) *environ_there = environment;
  }
  atomic_store(&loading, false);
  return loaded;
}

void tls_library_await_loading(void) {
  for (int naps = 0; naps < LOADING_NAPS_MAX && atomic_load(&loading); naps++)
    raw_nap(); /* nanosleep is a cancellation point */
}

/* The name of a function that is missing, or NULL. */
static const char *find_functions(void) {
#define TLS_LIBRARY_FIND(result, name, parameters) \
  if (!(tls_library.name = (result(*) parameters)dlsym(handle, #name))) return #name;
  TLS_LIBRARY_FUNCTIONS(TLS_LIBRARY_FIND)
#undef TLS_LIBRARY_FIND
  void *get_peer_certificate = dlsym(handle, "SSL_get1_peer_certificate");
  if (!get_peer_certificate) get_peer_certificate = dlsym(handle, "SSL_get_peer_certificate");
  tls_library.get_peer_certificate =
      (struct x509_st * (*)(const struct ssl_st *)) get_peer_certificate;
  return get_peer_certificate ? NULL : "SSL_get_peer_certificate";
}

static uint32_t keys_in_use(void) {
  uint32_t keys = 0;
  for (pthread_key_t key = 0; key < KEYS; key++)
    if (pthread_getspecific(key)) keys |= UINT32_C(1) << key;
  return keys;
}

/* The second copy hands out the lowest number that is free: all are taken there, and those that may
 * be used given back. */
static bool withhold_keys(void) {
  int (*create)(pthread_key_t *, void (*)(void *)) =
      (int (*)(pthread_key_t *, void (*)(void *)))dlsym(handle, "pthread_key_create");
  int (*delete)(pthread_key_t) = (int (*)(pthread_key_t))dlsym(handle, "pthread_key_delete");
  pthread_key_t key;
  if (!create || !delete || __builtin_popcount(foreign_keys) > FOREIGN_KEYS_MAX) return false;
  uint32_t taken = 0;
  while (taken != UINT32_MAX && create(&key, NULL) == 0 && key < KEYS) taken |= UINT32_C(1) << key;
  for (key = 0; key < KEYS; key++)
    if ((taken & ~foreign_keys) >> key & 1) delete (key);
  withheld_keys = foreign_keys;
  return taken == UINT32_MAX;
}

static bool fail(char *reason, size_t reason_size, const char *text, const char *detail) {
  unusable = handle != NULL;
  snprintf(reason, reason_size, "%s%s", text, detail);
  return false;
}

static const char keys_text[] =
    "the program's libraries keep pthread_setspecific data on the agent's thread";

bool tls_library_enter_thread(char *reason, size_t reason_size) {
  foreign_keys = keys_in_use();
  if (unusable) return fail(reason, reason_size, "OpenSSL's libssl could not be used before", "");
  if (handle) {
    if (foreign_keys & ~withheld_keys) return fail(reason, reason_size, keys_text, "");
    if (set_up_ctype)
      set_up_ctype(); /* as the second copy does for the thread that loads it, and no pthread_create
                         for others */
    return true;
  }
  handle = load();
  if (!handle) /* dlerror would translate its text, and allocate for that */
    return fail(reason, reason_size,
                "OpenSSL's libssl.so.3 cannot be loaded (not installed, or there is no room for "
                "one more namespace)",
                "");
  const char *missing = find_functions();
  if (missing)
    return fail(reason, reason_size, "OpenSSL's libssl is too old or too new: it has no ", missing);
  if (!withhold_keys()) return fail(reason, reason_size, keys_text, "");
  set_up_ctype = (void (*)(void))dlsym(handle, "__ctype_init");
  if (!tls_library.CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free))
    return fail(reason, reason_size, "OpenSSL does not take the agent's allocator", "");
  /* Texts of errors would be a table of thousands. The program's exit and openssl.cnf are not for
   * this copy. */
  if (!tls_library.OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT | OPENSSL_INIT_NO_LOAD_CONFIG |
                                        OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS |
                                        OPENSSL_INIT_NO_LOAD_SSL_STRINGS,
                                    NULL))
    return fail(reason, reason_size, "OpenSSL cannot be initialised", "");
  return true;
}

void tls_library_leave_thread(void) {
  if (handle && !unusable) tls_library.OPENSSL_thread_stop();
  /* A value that no key of the first C library made is cleared by getspecific, which compares the
   * keys' generations; one that could be of such a key, by setspecific. */
  for (pthread_key_t key = 0; key < KEYS; key++)
    if (!(foreign_keys >> key & 1) && pthread_getspecific(key)) pthread_setspecific(key, NULL);
}
