/* host_check.h: the table of its rules, then random heads, which must neither crash nor let a
 * foreign host in. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/http/host_check.h"

static int failures;

static void expect(const char *what, int status, int expected) {
  if (status == expected) return;
  printf("%s: status %d, expected %d\n", what, status, expected);
  failures++;
}

static const char *target = "/";
static bool authenticated;

static int check_one(unsigned port, const char *origins, const char *name, const char *value,
                     const char *name2, const char *value2) {
  struct host_check_header headers[2] = {{name, value}, {name2, value2}};
  struct host_check_rules rules = {.address = "127.0.0.2:6060",
                                   .port = port,
                                   .origins = origins,
                                   .authenticated = authenticated};
  struct host_check_request request = {
      .method = "GET", .target = target, .headers = headers, .header_count = name2 ? 2 : 1};
  struct host_check_verdict verdict;
  host_check(&rules, &request, &verdict);
  return verdict.status;
}

static void check_rules(void) {
  expect("own host", check_one(6060, "", "Host", "localhost:6060", NULL, NULL), 0);
  expect("name without case", check_one(6060, "", "hOST", "127.0.0.1:6060", NULL, NULL), 0);
  expect("no port", check_one(6060, "", "Host", "localhost", NULL, NULL), 403);
  expect("default port", check_one(80, "", "Host", "localhost", NULL, NULL), 0);
  expect("the listener's address", check_one(6060, "", "Host", "127.0.0.2:6060", NULL, NULL), 0);
  expect("the listener's address, another port",
         check_one(6061, "", "Host", "127.0.0.2:6060", NULL, NULL), 403);
  expect("the listener's address as origin",
         check_one(6060, "", "Host", "127.0.0.2:6060", "Origin", "http://127.0.0.2:6060"), 0);
  expect("the listener's address, a longer one",
         check_one(6060, "", "Host", "127.0.0.2:60601", NULL, NULL), 403);
  expect("unix socket", check_one(0, "", "Host", "whatever", NULL, NULL), 0);
  expect("unix socket, foreign origin", check_one(0, "", "Host", "x", "Origin", "http://x"), 403);
  expect("no host", check_one(6060, "", "X", "y", NULL, NULL), 403);
  expect("two hosts", check_one(6060, "", "Host", "localhost:6060", "host", "localhost:6060"), 403);
  expect("origin list, exact",
         check_one(6060, "http://a,http://b/", "Host", "localhost:6060", "Origin", "http://b"), 0);
  expect("origin list, prefix",
         check_one(6060, "http://a,http://bc", "Host", "localhost:6060", "Origin", "http://b"),
         403);
  expect("origin list, empty origin",
         check_one(6060, " , ", "Host", "localhost:6060", "Origin", ""), 403);
  expect("null is never listed",
         check_one(6060, "null", "Host", "localhost:6060", "Origin", "null"), 400);
}

/* What wire.md's fourth section says of each header, with a Host header that is fine. */
static void check_headers(void) {
  static const struct {
    const char *name, *value;
    int status, with_foreign_host;
  } cases[] = {{"Upgrade", "websocket", 400, 400},
               {"upgrade", "h2c, WebSocket", 400, 400},
               {"Upgrade", "h2c", 0, 403},
               {"Upgrade", "", 0, 403},
               {"Sec-Fetch-Mode", "no-cors", 400, 400},
               {"Sec-Fetch-Mode", "navigate", 0, 403},
               {"Sec-Fetch-Mode", "cors", 0, 403},
               {"Sec-Fetch-Mode", "same-origin", 0, 403},
               {"Sec-Fetch-Mode", "websocket", 0, 403},
               {"Origin", "null", 400, 400},
               {"Origin", "", 403, 403},
               {"Origin", "http://localhost:6060", 0, 403},
               {"Origin", "http://localhost:6060/", 403, 403},
               {"Origin", "https://localhost:6060", 403, 403},
               {"Origin", "http://localhost", 403, 403},
               {"Origin", "http://listed", 0, 403},
               {"Origin", "https://listed", 403, 403},
               {"Origin", "http://listed.evil", 403, 403},
               {"Origin", "NULL", 403, 403},
               {"Origin", "http://localhost:6060 http://evil", 403, 403},
               {"Referer", "http://localhost:6060/debug/pprof/?x", 0, 403},
               {"Referer", "http://127.0.0.1:6060", 0, 403},
               {"Referer", "", 0, 403},
               {"Referer", "http://evil/http://localhost:6060/", 403, 403},
               {"Referer", "http://localhost:6060@evil/", 403, 403},
               {"Referer", "http://localhost:60600/", 403, 403},
               {"Referer", "http://listed/page#x", 0, 403},
               {"Referer", "https://listed/", 403, 403},
               {"Referer", "about:blank", 403, 403},
               {"Referer", "://", 403, 403},
               {"Referer", "localhost:6060", 403, 403},
               {"Sec-Fetch-Site", "none", 0, 403},
               {"Sec-Fetch-Site", "same-origin", 0, 403},
               {"Sec-Fetch-Site", "same-site", 403, 403},
               {"Sec-Fetch-Site", "cross-site", 403, 403},
               {"Sec-Fetch-Site", "", 403, 403}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    char what[100];
    snprintf(what, sizeof(what), "%s: %s", cases[i].name, cases[i].value);
    expect(
        what,
        check_one(6060, "http://listed", "Host", "localhost:6060", cases[i].name, cases[i].value),
        cases[i].status);
    strcat(what, ", and a foreign host");
    expect(what,
           check_one(6060, "http://listed", "Host", "evil:6060", cases[i].name, cases[i].value),
           cases[i].with_foreign_host);
  }
  static const char *const once[] = {"Origin", "Referer", "Sec-Fetch-Site", "Sec-Fetch-Mode",
                                     "Upgrade"};
  for (size_t i = 0; i < sizeof(once) / sizeof(once[0]); i++)
    expect(once[i], check_one(0, "", once[i], "", once[i], ""), 400);
  static char referer[2000] = "http://";
  memset(referer + 7, 'x', sizeof(referer) - 8);
  expect("long referer", check_one(6060, referer, "Host", "localhost:6060", "Referer", referer),
         403);
}

/* Which names a certificate of ours has is not known here: the client has checked the one that it
 * asked for. */
static void check_authenticated(void) {
  authenticated = true;
  expect("any host", check_one(6060, "", "Host", "server.example:6443", NULL, NULL), 0);
  expect("no host", check_one(6060, "", "X", "y", NULL, NULL), 403);
  expect("empty host", check_one(6060, "", "Host", "", NULL, NULL), 403);
  expect("two hosts, authenticated", check_one(6060, "", "Host", "a", "Host", "a"), 403);
  expect("own origin", check_one(6060, "", "Host", "a:1", "Origin", "https://a:1"), 0);
  expect("origin with a longer name", check_one(6060, "", "Host", "a:1", "Origin", "https://a:12"),
         403);
  expect("origin without TLS", check_one(6060, "", "Host", "a:1", "Origin", "http://a:1"), 403);
  expect("origin of the loopback port",
         check_one(6060, "", "Host", "a:1", "Origin", "http://localhost:6060"), 403);
  expect("listed origin", check_one(6060, "https://b", "Host", "a:1", "Origin", "https://b"), 0);
  expect("own referer", check_one(6060, "", "Host", "a:1", "Referer", "https://a:1/debug/pprof/"),
         0);
  expect("foreign referer",
         check_one(6060, "", "Host", "a:1", "Referer", "https://b:1/debug/pprof/"), 403);
  expect("null, authenticated", check_one(6060, "", "Host", "a:1", "Origin", "null"), 400);
  expect("cross-site, authenticated",
         check_one(6060, "", "Host", "a:1", "Sec-Fetch-Site", "cross-site"), 403);
  expect("no-cors, authenticated", check_one(6060, "", "Host", "a:1", "Sec-Fetch-Mode", "no-cors"),
         400);
  target = "https://a:1/x";
  expect("own absolute target", check_one(6060, "", "Host", "a:1", NULL, NULL), 0);
  expect("foreign absolute target", check_one(6060, "", "Host", "b:1", NULL, NULL), 403);
  target = "http://a:1/x";
  expect("absolute target without TLS", check_one(6060, "", "Host", "a:1", NULL, NULL), 400);
  target = "/";
  authenticated = false;
}

/* Names of hosts and schemes have no case; an IPv6 address has several spellings. Nothing else is
 * let in by that. */
static void check_spellings(void) {
  static const struct {
    const char *host;
    int status;
  } cases[] = {{"LocalHost:6060", 0},
               {"LOCALHOST:6060", 0},
               {"localhost.:6060", 0},
               {"LocalHost.:6060", 0},
               {"[0:0:0:0:0:0:0:1]:6060", 0},
               {"[0::1]:6060", 0},
               {"[::0001]:6060", 0},
               {"localhost..:6060", 403},
               {".localhost:6060", 403},
               {"localhos:6060", 403},
               {"localhostx:6060", 403},
               {"localhost.evil:6060", 403},
               {"evil.localhost:6060", 403},
               {"[::2]:6060", 403},
               {"::1:6060", 403},
               {"[::1%lo]:6060", 403},
               {"[::1]]:6060", 403},
               {"[[::1]:6060", 403},
               {"[]:6060", 403},
               {"[:6060", 403},
               {"127.0.0.1.:6060", 403},
               {"127.1:6060", 403},
               {"2130706433:6060", 403},
               {"[::127.0.0.1]:6060", 403},
               {":6060", 403},
               {"6060", 403},
               {"localhost:06060", 403},
               {"localhost:6060:6060", 403},
               {"localhost:6060 ", 403},
               {"localhost:60600", 403},
               {"localhost\xc5\xbf:6060", 403}};
  char origin[80];
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    char *host = strdup(cases[i].host); /* exactly sized, for the address sanitizer */
    expect(host, check_one(6060, "", "Host", host, NULL, NULL), cases[i].status);
    snprintf(origin, sizeof(origin), "HTTP://%s", host);
    expect(origin, check_one(6060, "", "Host", "localhost:6060", "Origin", origin),
           cases[i].status);
    snprintf(origin, sizeof(origin), "Http://%s/debug/pprof/", host);
    expect(origin, check_one(6060, "", "Host", "localhost:6060", "Referer", origin),
           cases[i].status);
    target = origin;
    expect("absolute target", check_one(6060, "", "Host", "localhost:6060", NULL, NULL),
           cases[i].status);
    target = "/";
    free(host);
  }
  expect("default port, upper case", check_one(80, "", "Host", "LOCALHOST", NULL, NULL), 0);
  expect("default port, long address", check_one(80, "", "Host", "[0::1]", NULL, NULL), 0);
  expect("port, none wanted", check_one(80, "", "Host", "localhost:6060", NULL, NULL), 403);
  expect("origin list, case",
         check_one(6060, "HTTPS://Listed", "Host", "localhost:6060", "Origin", "https://listed"),
         0);
  expect("origin list, case of the origin",
         check_one(6060, "https://listed", "Host", "localhost:6060", "Origin", "HTTPS://LISTED"),
         0);
  authenticated = true;
  expect("own origin, case", check_one(6060, "", "Host", "Server:1", "Origin", "HTTPS://sERVER:1"),
         0);
  target = "HTTPS://sERVER:1/x";
  expect("own absolute target, case", check_one(6060, "", "Host", "Server:1", NULL, NULL), 0);
  authenticated = false;
  target = "/";
}

static void check_paths(void) {
  static const struct {
    const char *text, *decoded; /* NULL: refused */
  } cases[] = {{"/a%20b", "/a b"}, {"/%2F%2f", "///"}, {"/%", NULL}, {"/%4", NULL},
               {"/%4g", NULL},     {"/%00", NULL},     {"", ""}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    char *path = strdup(cases[i].text); /* exactly sized, for the address sanitizer */
    bool fine = host_check_decode_path(path);
    if (fine != (cases[i].decoded != NULL) || (fine && strcmp(path, cases[i].decoded) != 0)) {
      printf("path %s: %s\n", cases[i].text, fine ? path : "refused");
      failures++;
    }
    free(path);
  }
}

static uint64_t random_state = 88172645463325252u;
static unsigned random_below(unsigned limit) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (unsigned)(random_state >> 33) % limit;
}

static char *random_text(const char *const *pieces, unsigned piece_count) {
  char text[512] = "";
  for (unsigned i = random_below(5); i-- > 0;) {
    if (random_below(3)) strcat(text, pieces[random_below(piece_count)]);
    else strcat(text, (char[]){(char)(1 + random_below(255)), 0});
  }
  return strdup(text);
}

static void check_random(void) {
  static const char *const pieces[] = {"localhost",   ":6060",  "127.0.0.1", "[::1]",
                                       "http://",     "null",   "evil",      ",",
                                       " ",           "%",      "%41",       "none",
                                       "same-origin", "Host",   "Origin",    "Sec-Fetch-Site",
                                       "Upgrade",     "Referer"};
  enum { PIECES = sizeof(pieces) / sizeof(pieces[0]), ROUNDS = 200000 };
  for (int round = 0; round < ROUNDS; round++) {
    struct host_check_header headers[6];
    size_t count = random_below(6);
    for (size_t i = 0; i < count; i++) {
      headers[i].name =
          random_below(4) ? strdup(pieces[13 + random_below(5)]) : random_text(pieces, PIECES);
      headers[i].value = random_text(pieces, PIECES);
    }
    char *origins = random_text(pieces, PIECES), *line = random_text(pieces, PIECES);
    struct host_check_rules rules = {.address = "", .port = 6060, .origins = origins};
    struct host_check_request request = {
        .method = "GET", .target = line, .headers = headers, .header_count = count};
    struct host_check_verdict verdict;
    host_check(&rules, &request, &verdict);
    bool own = strcmp(verdict.host, "localhost:6060") == 0 ||
               strcmp(verdict.host, "127.0.0.1:6060") == 0 ||
               strcmp(verdict.host, "[::1]:6060") == 0;
    if (verdict.status == 0 && !own) {
      printf("let in: %s\n", verdict.host);
      failures++;
    }
    host_check_decode_path(line);
    for (size_t i = 0; i < count; i++) {
      free((char *)headers[i].name);
      free((char *)headers[i].value);
    }
    free(origins);
    free(line);
  }
}

int main(void) {
  check_rules();
  check_headers();
  check_spellings();
  check_authenticated();
  check_paths();
  check_random();
  return failures != 0;
}
