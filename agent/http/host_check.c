#include "host_check.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "agent/runtime/foreign_text.h"

enum { ORIGIN_MAX = 512 };

/* strcasecmp goes by the host's locale. */
static char ascii_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c; }

static bool same_without_case(const char *a, const char *b, size_t length) {
  for (size_t i = 0; i < length; i++) {
    if (ascii_lower(a[i]) != ascii_lower(b[i])) return false;
    if (!a[i]) return true;
  }
  return true;
}

static bool contains_without_case(const char *text, const char *part) { /* part in lower case */
  for (size_t length = strlen(part); *text; text++)
    if (same_without_case(text, part, length)) return true;
  return false;
}

/* The only value of a header that must appear at most once; NULL when it is absent. */
static const char *find_single(const struct host_check_request *request, const char *name,
                               bool *repeated) {
  const char *value = NULL;
  for (size_t i = 0; i < request->header_count; i++) {
    if (!same_without_case(request->headers[i].name, name, (size_t)-1)) continue;
    if (value) *repeated = true;
    value = request->headers[i].value;
  }
  return value;
}

static void refuse(struct host_check_verdict *verdict, int status, const char *text,
                   const char *detail) {
  verdict->status = status;
  snprintf(verdict->text, sizeof(verdict->text), "%s%.200s", text, detail);
  foreign_text_clean(verdict->text);
}

/* An IPv6 address may be written in several ways; no name server answers for any of them. */
static bool same_literal(const char *host, size_t length, const char *name) {
  char texts[2][INET6_ADDRSTRLEN + 2];
  struct in6_addr addresses[2];
  size_t name_length = strlen(name);
  if (length < 2 || length >= sizeof(texts[0]) || name_length < 2 ||
      name_length >= sizeof(texts[0]))
    return false;
  if (host[0] != '[' || host[length - 1] != ']' || name[0] != '[' || name[name_length - 1] != ']')
    return false;
  snprintf(texts[0], sizeof(texts[0]), "%.*s", (int)length - 2, host + 1);
  snprintf(texts[1], sizeof(texts[1]), "%.*s", (int)name_length - 2, name + 1);
  return inet_pton(AF_INET6, texts[0], &addresses[0]) == 1 &&
         inet_pton(AF_INET6, texts[1], &addresses[1]) == 1 &&
         memcmp(&addresses[0], &addresses[1], sizeof(addresses[0])) == 0;
}

/* host[0 .. length) is name:port; browsers leave the default port out. */
static bool is_host(const char *host, size_t length, const char *name, unsigned port) {
  char suffix[16];
  size_t suffix_length = (size_t)snprintf(suffix, sizeof(suffix), ":%u", port);
  if (length > suffix_length && memcmp(host + length - suffix_length, suffix, suffix_length) == 0)
    length -= suffix_length;
  else if (port != 80) return false;
  return (strlen(name) == length && same_without_case(host, name, length)) ||
         same_literal(host, length, name);
}

/* host[0 .. length) is "localhost", "127.0.0.1", "[::1]" or the listener's address, with exactly
 * our port. */
static bool is_own_host(const struct host_check_rules *rules, const char *host, size_t length) {
  static const char *const names[] = {"localhost", "localhost.", "127.0.0.1", "[::1]"};
  char literal[64]; /* the address without its port */
  const char *colon = strrchr(rules->address, ':');
  snprintf(literal, sizeof(literal), "%.*s", colon ? (int)(colon - rules->address) : 0,
           rules->address);
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    if (is_host(host, length, names[i], rules->port)) return true;
  }
  return *literal && is_host(host, length, literal, rules->port);
}

/* As a browser writes it: no path, no default port. Scheme and host have no case. */
static bool is_own_origin(const struct host_check_rules *rules, const char *host,
                          const char *origin) {
  static const char plain[] = "http://", secure[] = "https://";
  if (rules->authenticated)
    return same_without_case(origin, secure, sizeof(secure) - 1) &&
           same_without_case(origin + sizeof(secure) - 1, host, (size_t)-1);
  if (rules->port == 0 || !same_without_case(origin, plain, sizeof(plain) - 1)) return false;
  return is_own_host(rules, origin + sizeof(plain) - 1, strlen(origin + sizeof(plain) - 1));
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

/* Where a page that links here is: the origin part of its URL. */
static bool is_referer_allowed(const struct host_check_rules *rules, const char *host,
                               const char *referer) {
  char origin[ORIGIN_MAX];
  const char *authority = strstr(referer, "://");
  size_t length = authority ? (size_t)(authority - referer) + 3 : 0;
  if (authority) length += strcspn(authority + 3, "/?#");
  if (length == 0 || length >= sizeof(origin)) return false;
  memcpy(origin, referer, length);
  origin[length] = 0;
  return is_own_origin(rules, host, origin) || in_origin_list(rules->origins, origin);
}

/* Requests that no page of ours makes, wherever they go. */
static void check_kind(const struct host_check_request *request,
                       struct host_check_verdict *verdict) {
  bool repeated = false;
  const char *upgrade = find_single(request, "Upgrade", &repeated),
             *mode = find_single(request, "Sec-Fetch-Mode", &repeated),
             *origin = find_single(request, "Origin", &repeated);
  find_single(request, "Sec-Fetch-Site", &repeated);
  find_single(request, "Referer", &repeated);
  if (repeated) refuse(verdict, 400, "repeated Origin, Referer, Upgrade or Sec-Fetch header", "");
  else if (upgrade && contains_without_case(upgrade, "websocket"))
    refuse(verdict, 400, "protocol upgrade not supported", "");
  else if (mode && contains_without_case(mode, "no-cors"))
    refuse(verdict, 400, "not for use by a page: Sec-Fetch-Mode: ", mode);
  else if (origin && strcmp(origin, "null") == 0)
    refuse(verdict, 400, "origin not allowed: null", "");
}

static void check_origin(const struct host_check_rules *rules,
                         const struct host_check_request *request,
                         struct host_check_verdict *verdict) {
  bool repeated = false;
  const char *origin = find_single(request, "Origin", &repeated),
             *referer = find_single(request, "Referer", &repeated);
  const char *site = find_single(request, "Sec-Fetch-Site", &repeated);
  if (origin && in_origin_list(rules->origins, origin)) {
    verdict->origin = origin;
  } else if (origin && !is_own_origin(rules, verdict->host, origin)) {
    refuse(verdict, 403, "origin not allowed: ", origin);
  } else if (!origin && referer && *referer && !is_referer_allowed(rules, verdict->host, referer)) {
    refuse(verdict, 403, "referer not allowed: ", referer);
  } else if (site && strcmp(site, "none") != 0 && strcmp(site, "same-origin") != 0) {
    refuse(verdict, 403, "cross-site request not allowed: Sec-Fetch-Site: ", site);
  }
}

/* target is http://host:port/...: its host and port must be ours, as the Host header's. */
static void check_absolute_target(const struct host_check_rules *rules, const char *target,
                                  struct host_check_verdict *verdict) {
  const char *scheme = rules->authenticated ? "https://" : "http://";
  size_t scheme_length = strlen(scheme);
  char authority[256];
  if (!same_without_case(target, scheme, scheme_length)) {
    refuse(verdict, 400, "malformed request target", "");
    return;
  }
  target += scheme_length;
  size_t length = strcspn(target, "/");
  bool own = rules->authenticated ? length == strlen(verdict->host) &&
                                        same_without_case(target, verdict->host, length)
                                  : rules->port == 0 || is_own_host(rules, target, length);
  snprintf(authority, sizeof(authority), "%.*s", (int)length, target);
  if (!own) refuse(verdict, 403, "host not allowed: ", authority);
}

void host_check(const struct host_check_rules *rules, const struct host_check_request *request,
                struct host_check_verdict *out) {
  bool repeated = false;
  memset(out, 0, sizeof(*out));
  const char *host = find_single(request, "Host", &repeated);
  out->host = host ? host : "";
  if (request->header_count >= HOST_CHECK_HEADERS_MAX) {
    refuse(out, 431, "too many header fields",
           ""); /* the parser has dropped the rest: they might matter */
  } else if (strlen(request->target) > HOST_CHECK_URL_MAX) {
    refuse(out, 414, "the URL is too long", "");
  } else {
    check_kind(request, out);
  }
  if (out->status) return;
  bool any_host = rules->authenticated ? *out->host : rules->port == 0;
  if (repeated) refuse(out, 403, "repeated Host header", "");
  else if (!any_host && !is_own_host(rules, out->host, strlen(out->host)))
    refuse(out, 403, "host not allowed: ", out->host);
  else check_origin(rules, request, out);
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
