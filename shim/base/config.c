#include "config.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "config_reading.h"
#include "dump_config.h"
#include "duration.h"
#include "stack_depth.h"

struct config config;

static const char *find(char *const *environment, const char *name) {
  size_t length = strlen(name);
  for (; *environment; environment++)
    if (**environment == *name && strncmp(*environment, name, length) == 0 &&
        (*environment)[length] == '=')
      return *environment + length + 1;
  return NULL;
}

static void read_number(char *const *environment, const char *name, uint64_t low, uint64_t high,
                        uint64_t fallback, uint64_t *out, struct config *config_out) {
  const char *text = find(environment, name);
  *out = fallback;
  if (!text || !*text) return;
  uint64_t value;
  if (config_parse_number(text, high, &value) && value >= low) *out = value;
  else
    config_add_fault(
        config_out, "%s: \"%.60s\" is not a number from %llu to %llu (k, M, G allowed); using %llu",
        name, text, (unsigned long long)low, (unsigned long long)high,
        (unsigned long long)fallback);
}

static void read_rate(char *const *environment, const char *name, uint64_t fallback,
                      _Atomic uint64_t *out, struct config *config_out) {
  uint64_t rate;
  read_number(environment, name, 0, (uint64_t)1 << CONFIG_RATE_MAX_BITS, fallback, &rate,
              config_out);
  atomic_init(out, rate);
}

/* Whole seconds, rounded up. */
static void read_flight(char *const *environment, struct config *out) {
  enum { MOST = 3600 };
  const char *text = find(environment, "PPROFAGENT_FLIGHT");
  double seconds;
  if (!text || !*text || strcmp(text, "off") == 0) return;
  if (parse_duration(text, &seconds) && seconds > 0 && seconds <= MOST) {
    out->flight_seconds = (uint64_t)seconds;
    if ((double)out->flight_seconds < seconds) out->flight_seconds++;
    return;
  }
  config_add_fault(out,
                   "PPROFAGENT_FLIGHT: \"%.60s\" is not a duration such as 10s, up to 1h; "
                   "the flight recorder is off",
                   text);
}

static void read_text(char *const *environment, const char *name, char *out, size_t size,
                      struct config *config_out) {
  const char *text = find(environment, name);
  out[0] = 0;
  if (!text) return;
  if (strlen(text) >= size)
    config_add_fault(config_out, "%s is longer than %zu characters and is ignored", name, size - 1);
  else strcpy(out, text);
}

static const char DEFAULT_ADDRESS[] = "127.0.0.1:6060";

static bool is_port(const char *text) {
  uint64_t port;
  size_t digits = 0; /* not strspn, for which libc has tables: this runs at each exec */
  while (digits < 6 && text[digits] >= '0' && text[digits] <= '9') digits++;
  return digits <= 5 && !text[digits] && config_parse_number(text, 65535, &port);
}

/* Loopback only: 127.0.0.0/8 in dotted form, [::1], localhost. */
static bool is_loopback_host(const char *host, size_t length) {
  if ((length == 5 && memcmp(host, "[::1]", 5) == 0) ||
      (length == 9 && memcmp(host, "localhost", 9) == 0))
    return true;
  unsigned octets = 0, value = 0, digits = 0;
  for (size_t i = 0; i <= length; i++) {
    if (i < length && host[i] >= '0' && host[i] <= '9') {
      value = value * 10 + (unsigned)(host[i] - '0');
      if (++digits > 3 || value > 255) return false;
    } else if (i == length || host[i] == '.') {
      if (digits == 0 || (octets == 0 && value != 127)) return false;
      octets++;
      value = digits = 0;
    } else {
      return false;
    }
  }
  return octets == 4;
}

static void read_address(char *const *environment, struct config *out) {
  const char *text = find(environment, "PPROFAGENT_ADDR");
  strcpy(out->address, DEFAULT_ADDRESS);
  if (!text || !*text) return;
  if (strlen(text) >= CONFIG_ADDRESS_MAX - sizeof "127.0.0.1") {
    config_add_fault(out, "PPROFAGENT_ADDR is too long; using %s", DEFAULT_ADDRESS);
    return;
  }
  if (strcmp(text, "off") == 0 || (strncmp(text, "unix:", 5) == 0 && text[5])) {
    strcpy(out->address, text);
    if (*text == 'u')
      config_make_absolute("PPROFAGENT_ADDR", out->address + 5, sizeof out->address - 5, out);
    return;
  }
  const char *colon = strrchr(text, ':');
  if (!colon || !is_port(colon + 1)) {
    config_add_fault(
        out, "PPROFAGENT_ADDR: \"%.60s\" is not HOST:PORT, :PORT, unix:PATH or off; using %s", text,
        DEFAULT_ADDRESS);
    return;
  }
  size_t host_length = (size_t)(colon - text);
  if (host_length == 0) {
    strcpy(stpcpy(out->address, "127.0.0.1"), colon);
  } else if (!is_loopback_host(text, host_length)) {
    config_add_fault(out, "PPROFAGENT_ADDR: \"%.60s\" is not a loopback address; using %s", text,
                     DEFAULT_ADDRESS);
  } else if (host_length == 9 && text[0] == 'l') {
    strcpy(stpcpy(out->address, "127.0.0.1"), colon);
  } else {
    strcpy(out->address, text);
  }
}

static bool parse_uid(const char *text, size_t length, uint32_t *uid) {
  uint64_t number = 0;
  for (size_t i = 0; i < length; i++) {
    if (text[i] < '0' || text[i] > '9') return false;
    number = number * 10 + (uint64_t)(text[i] - '0');
    if (number >= UINT32_MAX) return false; /* the last one means "none" to the kernel */
  }
  *uid = (uint32_t)number;
  return length > 0;
}

static void read_allowed_uids(char *const *environment, struct config *out) {
  static const char name[] = "PPROFAGENT_ALLOW_UIDS", separators[] = ", ";
  const char *text = find(environment, name);
  if (!text) return;
  for (text += strspn(text, separators); *text; text += strspn(text, separators)) {
    size_t length = strcspn(text, separators);
    uint32_t uid;
    if (!parse_uid(text, length, &uid)) {
      config_add_fault(out, "%s: \"%.*s\" is not a user's number and is ignored", name,
                       length < 60 ? (int)length : 60, text);
    } else if (out->allowed_uid_count == CONFIG_UIDS_MAX) {
      config_add_fault(out, "%s: more than %d users; %u and those after it are ignored", name,
                       CONFIG_UIDS_MAX, (unsigned)uid);
      return;
    } else {
      out->allowed_uids[out->allowed_uid_count++] = uid;
    }
    text += length;
  }
}

/* Any address of this machine, as a number: 10.0.0.1 or [fe80::1]. */
static bool is_numeric_host(const char *host, size_t length) {
  char text[INET6_ADDRSTRLEN];
  struct in6_addr address;
  bool six = length > 2 && host[0] == '[' && host[length - 1] == ']';
  if (six) host++, length -= 2;
  if (length == 0 || length >= sizeof text) return false;
  memcpy(text, host, length);
  text[length] = 0;
  return inet_pton(six ? AF_INET6 : AF_INET, text, &address) == 1;
}

static bool read_tls_file(char *const *environment, const char *name, char out[CONFIG_PATH_MAX],
                          struct config *config_out) {
  const char *text = find(environment, name);
  if (!text || !*text) {
    config_add_fault(config_out, "%s is not set: no remote admin", name);
    return false;
  }
  if (strlen(text) >= CONFIG_PATH_MAX) {
    config_add_fault(config_out, "%s is longer than %d characters: no remote admin", name,
                     CONFIG_PATH_MAX - 1);
    return false;
  }
  strcpy(out, text);
  config_make_absolute(name, out, CONFIG_PATH_MAX, config_out);
  return true;
}

static void read_tls(char *const *environment, struct config *out) {
  const char *text = find(environment, "PPROFAGENT_TLS_ADDR");
  if (!text || !*text) {
    static const char *const others[] = {"PPROFAGENT_TLS_CERT", "PPROFAGENT_TLS_KEY",
                                         "PPROFAGENT_TLS_CLIENT_CA"};
    for (unsigned i = 0; i < 3 && !text; i++) {
      if (!find(environment, others[i])) continue;
      config_add_fault(out, "%s is set, but PPROFAGENT_TLS_ADDR is not: no remote admin",
                       others[i]);
      return;
    }
    return;
  }
  const char *colon = strrchr(text, ':');
  size_t host_length = colon ? (size_t)(colon - text) : 0;
  if (strlen(text) >= CONFIG_ADDRESS_MAX - sizeof "0.0.0.0" || !colon || !is_port(colon + 1) ||
      (host_length && !is_numeric_host(text, host_length))) {
    config_add_fault(
        out, "PPROFAGENT_TLS_ADDR: \"%.60s\" is not a numeric HOST:PORT or :PORT: no remote admin",
        text);
    return;
  }
  bool complete = read_tls_file(environment, "PPROFAGENT_TLS_CERT", out->tls_certificate, out);
  complete &= read_tls_file(environment, "PPROFAGENT_TLS_KEY", out->tls_key, out);
  complete &= read_tls_file(environment, "PPROFAGENT_TLS_CLIENT_CA", out->tls_client_ca, out);
  if (complete)
    snprintf(out->tls_address, sizeof out->tls_address, "%s%s", host_length ? "" : "0.0.0.0", text);
}

void config_switch_off(struct config *out) {
  out->is_off = true;
  strcpy(out->address, "off");
  atomic_init(&out->memprofile_rate, 0);
  atomic_init(&out->blockprofile_rate, 0);
  atomic_init(&out->mutexprofile_fraction, 0);
}

void config_read(char *const *environment, struct config *out) {
  memset(out, 0,
         offsetof(struct config,
                  faults)); /* of those, fault_count are valid; what follows is zero already */
  read_address(environment, out);
  read_rate(environment, "PPROFAGENT_MEMPROFILERATE", 524288, &out->memprofile_rate, out);
  read_rate(environment, "PPROFAGENT_BLOCKPROFILERATE", 100000, &out->blockprofile_rate, out);
  read_rate(environment, "PPROFAGENT_MUTEXPROFILEFRACTION", 10, &out->mutexprofile_fraction, out);
  read_number(environment, "PPROFAGENT_CPUPROFILERATE", 1, 1000, 100, &out->cpuprofile_rate, out);
  const char *cpu = find(environment, "PPROFAGENT_CPU");
  if (!cpu || !*cpu || strcmp(cpu, "auto") == 0) out->cpu = CPU_AUTO;
  else if (strcmp(cpu, "perf") == 0) out->cpu = CPU_PERF;
  else if (strcmp(cpu, "timer") == 0) out->cpu = CPU_TIMER;
  else
    config_add_fault(out, "PPROFAGENT_CPU: \"%.60s\" is not auto, perf or timer; using auto", cpu);
  read_number(environment, "PPROFAGENT_STACKDEPTH", STACK_LEAST_FRAMES, STACK_MOST_FRAMES,
              STACK_DEFAULT_FRAMES, &out->stack_depth, out);
  read_number(environment, "PPROFAGENT_SYMBOL_MEMORY", 16 << 20, (uint64_t)1 << 40, 64 << 20,
              &out->symbol_memory, out);
  read_number(environment, "PPROFAGENT_TRACE_BUFFER", 1 << 20, (uint64_t)1 << 32, 16 << 20,
              &out->trace_buffer, out);
  read_flight(environment, out);
  const char *children = find(environment, "PPROFAGENT_CHILDREN");
  if (!children || !*children || strcmp(children, "all") == 0) out->children = CHILDREN_ALL;
  else if (strcmp(children, "fork") == 0) out->children = CHILDREN_FORK;
  else if (strcmp(children, "none") == 0) out->children = CHILDREN_NONE;
  else
    config_add_fault(out, "PPROFAGENT_CHILDREN: \"%.60s\" is not all, fork or none; using all",
                     children);
  read_text(environment, "PPROFAGENT_LOG", out->log, sizeof out->log, out);
  if (strcmp(out->log, "stderr") != 0)
    config_make_absolute("PPROFAGENT_LOG", out->log, sizeof out->log, out);
  read_text(environment, "PPROFAGENT_ORIGINS", out->origins, sizeof out->origins, out);
  read_allowed_uids(environment, out);
  read_tls(environment, out);
  for (; *environment; environment++)
    if (strncmp(*environment, "PPROFAGENT_DUMP", 15) == 0)
      return dump_config_read(environment, out, &dump_config);
}
