#include "host_check.h"

#include <stdio.h>
#include <string.h>

/* strcasecmp goes by the host's locale. */
static char ascii_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c; }

static bool same_without_case(const char *a, const char *b, size_t length) {
  for (size_t i = 0; i < length; i++) {
    if (ascii_lower(a[i]) != ascii_lower(b[i])) return false;
    if (!a[i]) return true;
  }
  return true;
}

/* The only value of a header that must appear at most once; NULL when it is absent. */
static const char *find_single(const struct host_check_request *request, const char *name, bool *repeated) {
  const char *value = NULL;
  for (size_t i = 0; i < request->header_count; i++) {
    if (!same_without_case(request->headers[i].name, name, (size_t)-1)) continue;
    if (value) *repeated = true;
    value = request->headers[i].value;
  }
  return value;
}

static void refuse(struct host_check_verdict *verdict, int status, const char *text, const char *detail) {
  verdict->status = status;
  snprintf(verdict->text, sizeof(verdict->text), "%s%.200s", text, detail);
  for (char *c = verdict->text; *c; c++) {
    if ((unsigned char)*c < ' ' || *c == 0x7f) *c = '?';
  }
}

/* host[0 .. length) is name:port; browsers leave the default port out. */
static bool is_host(const char *host, size_t length, const char *name, unsigned port) {
  char expected[80];
  int size = snprintf(expected, sizeof(expected), "%s:%u", name, port);
  size_t name_length = strlen(name);
  if (size > 0 && (size_t)size == length && memcmp(host, expected, length) == 0) return true;
  return port == 80 && name_length == length && memcmp(host, name, length) == 0;
}

/* host[0 .. length) is "localhost", "127.0.0.1", "[::1]" or the listener's address, with exactly our port. */
static bool is_own_host(const struct host_check_rules *rules, const char *host, size_t length) {
  static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
  char literal[64]; /* the address without its port */
  const char *colon = strrchr(rules->address, ':');
  snprintf(literal, sizeof(literal), "%.*s", colon ? (int)(colon - rules->address) : 0, rules->address);
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    if (is_host(host, length, names[i], rules->port)) return true;
  }
  return *literal && is_host(host, length, literal, rules->port);
}

static bool in_origin_list(const char *list, const char *origin) {
  size_t length = strlen(origin);
  while (*list) {
    list += strspn(list, ", \t");
    size_t entry = strcspn(list, ", \t");
    size_t given = entry;
    if (entry && list[entry - 1] == '/') given--; /* "https://host/" is meant as an origin too */
    if (given == length && length && same_without_case(list, origin, length)) return true;
    list += entry;
  }
  return false;
}

static void check_origin(const struct host_check_rules *rules, const struct host_check_request *request,
                         struct host_check_verdict *verdict) {
  bool repeated = false;
  const char *origin = find_single(request, "Origin", &repeated);
  const char *site = find_single(request, "Sec-Fetch-Site", &repeated);
  if (repeated) {
    refuse(verdict, 400, "repeated Origin or Sec-Fetch-Site header", "");
    return;
  }
  if (origin && strcmp(origin, "null") != 0 && in_origin_list(rules->origins, origin)) {
    verdict->origin = origin;
    return;
  }
  bool own = origin && rules->port != 0 && strncmp(origin, "http://", 7) == 0 && is_own_host(rules, origin + 7, strlen(origin + 7));
  if (origin && !own) {
    refuse(verdict, 403, "origin not allowed: ", origin);
  } else if (site && strcmp(site, "none") != 0 && strcmp(site, "same-origin") != 0) {
    refuse(verdict, 403, "cross-site request not allowed: Sec-Fetch-Site: ", site);
  }
}

/* target is http://host:port/...: its host and port must be ours, as the Host header's. */
static void check_absolute_target(const struct host_check_rules *rules, const char *target, struct host_check_verdict *verdict) {
  static const char scheme[] = "http://";
  char authority[256];
  if (!same_without_case(target, scheme, sizeof(scheme) - 1)) {
    refuse(verdict, 400, "malformed request target", "");
    return;
  }
  target += sizeof(scheme) - 1;
  size_t length = strcspn(target, "/");
  snprintf(authority, sizeof(authority), "%.*s", (int)length, target);
  if (rules->port != 0 && !is_own_host(rules, target, length)) refuse(verdict, 403, "host not allowed: ", authority);
}

void host_check(const struct host_check_rules *rules, const struct host_check_request *request, struct host_check_verdict *out) {
  bool repeated = false;
  memset(out, 0, sizeof(*out));
  const char *host = find_single(request, "Host", &repeated);
  out->host = host ? host : "";
  if (request->header_count >= HOST_CHECK_HEADERS_MAX) {
    refuse(out, 431, "too many header fields", ""); /* the parser has dropped the rest: they might matter */
  } else if (strlen(request->target) > HOST_CHECK_URL_MAX) {
    refuse(out, 414, "the URL is too long", "");
  } else if (repeated) {
    refuse(out, 403, "repeated Host header", "");
  } else if (rules->port != 0 && !is_own_host(rules, out->host, strlen(out->host))) {
    refuse(out, 403, "host not allowed: ", out->host);
  } else if (find_single(request, "Upgrade", &repeated)) {
    refuse(out, 400, "protocol upgrade not supported", "");
  } else {
    check_origin(rules, request, out);
  }
  if (!out->status && request->target[0] != '/') check_absolute_target(rules, request->target, out);
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool host_check_decode_path(char *path) {
  char *to = path;
  for (const char *from = path; *from; from++) {
    char c = *from;
    if (c == '%') {
      int high = hex_digit(from[1]), low = high < 0 ? -1 : hex_digit(from[2]);
      if (low < 0 || (high == 0 && low == 0)) return false;
      c = (char)(high << 4 | low);
      from += 2;
    }
    *to++ = c;
  }
  *to = 0;
  return true;
}
