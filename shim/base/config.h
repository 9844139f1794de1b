/* The PPROFAGENT_* environment, read once at load (contract: docs/configuration.md). */
#ifndef SHIM_CONFIG_H
#define SHIM_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
  CONFIG_ADDRESS_MAX = 256,
  CONFIG_FAULTS_MAX = 12,
  CONFIG_FAULT_LENGTH = 200,
  CONFIG_PATH_MAX = 512,
  CONFIG_UIDS_MAX = 64
};

enum config_cpu { CPU_AUTO, CPU_PERF, CPU_TIMER };
enum config_children { CHILDREN_ALL, CHILDREN_FORK, CHILDREN_NONE };

struct config {
  char address[CONFIG_ADDRESS_MAX]; /* "127.0.0.1:6060", "[::1]:6060", "unix:/path" or "off";
                                       ":PORT" already completed */
  bool is_off; /* all of it: no profile, no thread, nobody served, nor in children */
  bool dumps_at_exit; /* of dump_config.h, where it costs no page more */
  bool records_cpu; /* likewise: from the start on */
  uint64_t dump_signals; /* likewise: bit n - 1: at signal n (shim/cpu/dump_signals.h) */
  /* Read by config_rate. Changed while the program runs by one agent thread at a time, the first
   * by heap_rate_set alone. */
  _Atomic uint64_t memprofile_rate; /* bytes; 0 off, 1 every allocation */
  _Atomic uint64_t blockprofile_rate; /* nanoseconds */
  _Atomic uint64_t mutexprofile_fraction;
  uint64_t cpuprofile_rate; /* hz, 1 .. 1000 */
  uint64_t stack_depth; /* frames kept of a stack */
  enum config_cpu cpu; /* where CPU samples come from */
  uint64_t symbol_memory; /* bytes that symbolizing may take at once */
  uint64_t trace_buffer; /* bytes of all rings of a trace */
  uint64_t flight_seconds; /* that the flight recorder keeps; 0: there is none */
  enum config_children children;
  char log[CONFIG_PATH_MAX]; /* "", "stderr" or a file's path */
  char origins[CONFIG_PATH_MAX]; /* as given */
  char tls_address[CONFIG_ADDRESS_MAX]; /* "HOST:PORT", any address; "": no remote admin */
  /* One sentence per bad value: shown on the index page, logged when logging is on. */
  uint32_t fault_count;
  char faults[CONFIG_FAULTS_MAX][CONFIG_FAULT_LENGTH];
  /* Written only when set: most processes need not touch these pages. */
  uint32_t allowed_uid_count;
  uint32_t allowed_uids[CONFIG_UIDS_MAX]; /* PPROFAGENT_ALLOW_UIDS: numbers separated by commas or
                                             spaces */
  char tls_certificate[CONFIG_PATH_MAX], tls_key[CONFIG_PATH_MAX], tls_client_ca[CONFIG_PATH_MAX];
};

/* Written once before main by config_read, constant afterwards, but for the three rates. */
extern struct config config;

enum { CONFIG_RATE_MAX_BITS = 40 }; /* of those three: 2^40 at most */

/* Nothing follows from a rate but how what comes next is drawn: relaxed. Who decides by it twice
 * reads it once. */
static inline uint64_t config_rate(const _Atomic uint64_t *rate) {
  return atomic_load_explicit(rate, memory_order_relaxed);
}

/* environment: NULL-terminated "NAME=value" strings. Context: constructor; no malloc. */
void config_read(char *const *environment, struct config *out);

/* For a program that has more rights than who started it (AT_SECURE: setuid, file capabilities). */
void config_switch_off(struct config *out);

#endif
