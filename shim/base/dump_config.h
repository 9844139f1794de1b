/* PPROFAGENT_DUMP and what belongs to it: profiles that are written to files without a client
 * (docs/dumps.md). Apart from config.h: most processes need not touch this. */
#ifndef SHIM_DUMP_CONFIG_H
#define SHIM_DUMP_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"

enum dump_kind {
  DUMP_HEAP,
  DUMP_ALLOCS,
  DUMP_GOROUTINE,
  DUMP_BLOCK,
  DUMP_MUTEX,
  DUMP_THREADCREATE,
  DUMP_PEAK,
  DUMP_CPU,
  DUMP_KINDS
};
extern const char dump_kind_names[DUMP_KINDS][16];

enum { DUMP_KEEP_DEFAULT = 16, DUMP_KEEP_MAX = 10000, DUMP_ON_MAX = 160 };

struct dump_config {
  char pattern[CONFIG_PATH_MAX]; /* an absolute path with %p %n %t %k %%; "": no dumps */
  char on[DUMP_ON_MAX]; /* PPROFAGENT_DUMP_ON as given, for people */
  uint32_t kinds; /* bits: 1 << enum dump_kind */
  uint32_t keep; /* files of this process and kind */
  bool at_exit;
  uint64_t signals; /* bit n - 1: signal:N */
  bool on_shortage; /* memory is nearly used up: "oom" */
  uint64_t interval_seconds; /* 0: not by time */
  uint64_t rss_bytes; /* a bound for resident memory; 0: none */
  uint64_t peak_percent; /* by how much the heap passes its last written peak; 0: not looked at */
};

/* Written once before main by config_read, constant afterwards. */
extern struct dump_config dump_config;

/* first: the first string of the environment that begins with PPROFAGENT_DUMP. Context:
 * constructor. */
void dump_config_read(char *const *first, struct config *common, struct dump_config *out);

#endif
