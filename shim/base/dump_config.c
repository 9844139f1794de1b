#include "dump_config.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "config_reading.h"
#include "duration.h"

struct dump_config dump_config;

const char dump_kind_names[DUMP_KINDS][16] = {
    [DUMP_HEAP] = "heap",   [DUMP_ALLOCS] = "allocs", [DUMP_GOROUTINE] = "goroutine",
    [DUMP_BLOCK] = "block", [DUMP_MUTEX] = "mutex",   [DUMP_THREADCREATE] = "threadcreate",
    [DUMP_PEAK] = "peak",   [DUMP_CPU] = "cpu"};

/* A list's next word, without spaces round it; false: there is none. */
static bool next_word(const char **at, char *word, size_t size) {
  const char *text = *at + strspn(*at, ", ");
  size_t length = strcspn(text, ", ");
  *at = text + length;
  if (length >= size) length = size - 1;
  memcpy(word, text, length);
  word[length] = 0;
  return length > 0;
}

static bool parse_interval(const char *text, uint64_t *seconds) {
  const double longest = 366 * 24 * 3600.0;
  double found;
  if (!parse_duration(text, &found) || found < 1 || found > longest) return false;
  *seconds = (uint64_t)found;
  return true;
}

static bool parse_size(const char *text, uint64_t *bytes) {
  uint64_t number;
  if (!config_parse_number(text, (uint64_t)1 << 60, &number) || number == 0) return false;
  *bytes = number;
  return true;
}

/* 20%. */
static bool parse_percent(const char *text, uint64_t *percent) {
  enum { MOST = 10000 };
  uint64_t number = 0;
  const char *at = text;
  for (; *at >= '0' && *at <= '9' && number <= MOST; at++)
    number = number * 10 + (uint64_t)(*at - '0');
  if (strcmp(at, "%") != 0 || number == 0 || number > MOST) return false;
  *percent = number;
  return true;
}

static uint64_t signal_bit(int number) { return (uint64_t)1 << (number - 1); }

static bool parse_signal(const char *name, uint64_t *signals) {
  if (strncmp(name, "SIG", 3) == 0) name += 3;
  int number = strcmp(name, "USR1") == 0 ? SIGUSR1 : strcmp(name, "USR2") == 0 ? SIGUSR2 : 0;
  if (number) *signals |= signal_bit(number);
  return number;
}

static bool read_moment(const char *word, struct dump_config *out) {
  if (strcmp(word, "exit") == 0) return out->at_exit = true;
  if (strcmp(word, "oom") == 0) return out->on_shortage = true;
  if (strncmp(word, "interval:", 9) == 0) return parse_interval(word + 9, &out->interval_seconds);
  if (strncmp(word, "signal:", 7) == 0) return parse_signal(word + 7, &out->signals);
  if (strncmp(word, "peak:", 5) == 0) return parse_percent(word + 5, &out->peak_percent);
  return strncmp(word, "rss:", 4) == 0 && parse_size(word + 4, &out->rss_bytes);
}

static void read_moments(const char *text, struct config *common, struct dump_config *out) {
  char word[64];
  bool any = false;
  for (const char *at = text; next_word(&at, word, sizeof word);) {
    if (read_moment(word, out)) any = true;
    else
      config_add_fault(common,
                       "PPROFAGENT_DUMP_ON: \"%s\" is not exit, interval:10m (s, m, h), rss:2G, "
                       "peak:20%%, oom, signal:USR1 or signal:USR2, and is ignored",
                       word);
  }
  out->at_exit |= !any;
  snprintf(out->on, sizeof out->on, "%s", any ? text : "exit");
}

static void read_kinds(const char *text, struct config *common, struct dump_config *out) {
  char word[64];
  for (const char *at = text; next_word(&at, word, sizeof word);) {
    int kind = 0;
    while (kind < DUMP_KINDS && strcmp(dump_kind_names[kind], word) != 0) kind++;
    if (kind < DUMP_KINDS) out->kinds |= 1u << kind;
    else
      config_add_fault(common, "PPROFAGENT_DUMP_PROFILES: \"%s\" is no profile, and is ignored",
                       word);
  }
  if (!out->kinds) out->kinds = 1u << DUMP_HEAP;
}

static void read_keep(const char *text, struct config *common, struct dump_config *out) {
  uint64_t keep = DUMP_KEEP_DEFAULT;
  if (*text && (!config_parse_number(text, DUMP_KEEP_MAX, &keep) || keep == 0)) {
    keep = DUMP_KEEP_DEFAULT;
    config_add_fault(common,
                     "PPROFAGENT_DUMP_KEEP: \"%.60s\" is not a number from 1 to %d; using %d", text,
                     DUMP_KEEP_MAX, DUMP_KEEP_DEFAULT);
  }
  out->keep = (uint32_t)keep;
}

/* False, and said: a letter that means nothing. has_kind: %k is there. */
static bool check_letters(const char *pattern, struct config *common, bool *has_kind) {
  for (const char *at = strchr(pattern, '%'); at; at = strchr(at + 2, '%')) {
    if (!at[1] || !strchr("pntk%", at[1])) {
      config_add_fault(
          common,
          "PPROFAGENT_DUMP: \"%.60s\" has a %% that is not %%p, %%n, %%t, %%k or %%%%: "
          "no profile is written",
          pattern);
      return false;
    }
    *has_kind |= at[1] == 'k';
  }
  return true;
}

static bool ends_with(const char *text, const char *end) {
  size_t length = strlen(text), size = strlen(end);
  return length >= size && strcmp(text + length - size, end) == 0;
}

/* A directory ends with "/", or has no % and does not end in ".pb.gz". */
static void read_pattern(const char *text, struct config *common, struct dump_config *out) {
  static const char in_directory[] = "%n-%p-%t-%k.pb.gz";
  bool slash = ends_with(text, "/"), has_kind = false;
  bool directory = slash || (!strchr(text, '%') && !ends_with(text, ".pb.gz"));
  int length = snprintf(out->pattern, sizeof out->pattern, "%s%s%s", text,
                        directory && !slash ? "/" : "", directory ? in_directory : "");
  if ((size_t)length >= sizeof out->pattern) {
    config_add_fault(common, "PPROFAGENT_DUMP is too long: no profile is written");
    *out->pattern = 0;
  } else if (!check_letters(out->pattern, common, &has_kind)) {
    *out->pattern = 0;
  }
  config_make_absolute("PPROFAGENT_DUMP", out->pattern, sizeof out->pattern, common);
  if (*out->pattern != '/') *out->pattern = 0; /* which has been said */
  if (*out->pattern && !has_kind && (out->kinds & (out->kinds - 1))) {
    config_add_fault(common,
                     "PPROFAGENT_DUMP has no %%k: of several profiles the first is written");
    out->kinds &= -out->kinds;
  }
  common->records_cpu = *out->pattern && out->kinds >> DUMP_CPU & 1;
  common->dumps_at_exit = *out->pattern && out->at_exit;
  if (*out->pattern) common->dump_signals = out->signals;
  if (common->dumps_at_exit)
    common->dump_signals |= signal_bit(SIGTERM) | signal_bit(SIGINT) | signal_bit(SIGHUP);
}

void dump_config_read(char *const *first, struct config *common, struct dump_config *out) {
  static const char names[][12] = {"=", "_ON=", "_PROFILES=", "_KEEP="};
  enum { PATTERN, ON, PROFILES, KEEP, VARIABLES };
  static const char prefix[] = "PPROFAGENT_DUMP";
  const char *values[VARIABLES] = {"", "", "", ""};
  for (; *first; first++) {
    if (strncmp(*first, prefix, sizeof prefix - 1) != 0) continue;
    const char *rest = *first + sizeof prefix - 1;
    for (int i = 0; i < VARIABLES; i++)
      if (strncmp(rest, names[i], strlen(names[i])) == 0) values[i] = rest + strlen(names[i]);
  }
  *out = (struct dump_config){0};
  if (!*values[PATTERN]) {
    config_add_fault(common,
                     "PPROFAGENT_DUMP is not set, but what belongs to it is: no profile is "
                     "written");
    return;
  }
  read_kinds(values[PROFILES], common, out);
  read_moments(values[ON], common, out);
  read_keep(values[KEEP], common, out);
  read_pattern(values[PATTERN], common, out);
}
