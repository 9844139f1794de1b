/* The environment: defaults, suffixes, and one fault a bad value with the default used. */
#include "shim/base/config.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

static struct config read_all(char *const *environment) {
  struct config out = {0}; /* as the agent's own is */
  config_read(environment, &out);
  return out;
}

static struct config read_one(const char *assignment) {
  return read_all((char *[]){(char *)assignment, NULL});
}

static void check_uids(void) {
  static const struct {
    const char *text;
    uint32_t count, uids[3], faults;
    const char *named;
  } cases[] = {{"", 0, {0}, 0, ""},
               {"1001", 1, {1001}, 0, ""},
               {" 1001,,1002  33 ", 3, {1001, 1002, 33}, 0, ""},
               {"0", 1, {0}, 0, ""},
               {"4294967294", 1, {4294967294u}, 0, ""},
               {"4294967295", 0, {0}, 1, "4294967295"},
               {"18446744073709551617", 0, {0}, 1, "18446744073709551617"},
               {"7,www-data,8", 2, {7, 8}, 1, "\"www-data\""},
               {"-1 5", 1, {5}, 1, "\"-1\""},
               {"0x10", 0, {0}, 1, "\"0x10\""},
               {"1k", 0, {0}, 1, "\"1k\""},
               {"5;6", 0, {0}, 1, "\"5;6\""}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char assignment[100];
    snprintf(assignment, sizeof assignment, "PPROFAGENT_ALLOW_UIDS=%s", cases[i].text);
    struct config out = read_one(assignment);
    CHECK(out.allowed_uid_count == cases[i].count && out.fault_count == cases[i].faults);
    CHECK(memcmp(out.allowed_uids, cases[i].uids, cases[i].count * sizeof(uint32_t)) == 0);
    if (out.fault_count)
      CHECK(strstr(out.faults[0], "PPROFAGENT_ALLOW_UIDS") &&
            strstr(out.faults[0], cases[i].named));
  }
  static char many[2000] = "PPROFAGENT_ALLOW_UIDS=";
  for (int i = 0; i < CONFIG_UIDS_MAX + 5; i++) snprintf(many + strlen(many), 16, "%d,", 1000 + i);
  struct config out = read_one(many);
  CHECK(out.allowed_uid_count == CONFIG_UIDS_MAX && out.fault_count == 1 &&
        strstr(out.faults[0], "1064"));
  CHECK(out.allowed_uids[CONFIG_UIDS_MAX - 1] == 1000 + CONFIG_UIDS_MAX - 1 &&
        out.tls_address[0] == 0);
}

static void check_tls(void) {
  static const struct {
    const char *text, *address;
  } cases[] = {{"", ""},
               {":6443", "0.0.0.0:6443"},
               {"10.1.2.3:6443", "10.1.2.3:6443"},
               {"[::]:1", "[::]:1"},
               {"[fe80::1]:65535", "[fe80::1]:65535"},
               {"127.0.0.1:0", "127.0.0.1:0"},
               {"example.org:6443", NULL},
               {"10.1.2.3", NULL},
               {"10.1.2.3:", NULL},
               {"10.1.2:6443", NULL},
               {"[]:1", NULL},
               {"[10.1.2.3]:1", NULL},
               {"::1:6443", NULL},
               {"10.1.2.3:65536", NULL},
               {"unix:/x", NULL}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char address[100];
    snprintf(address, sizeof address, "PPROFAGENT_TLS_ADDR=%s", cases[i].text);
    struct config out =
        read_all((char *[]){address, "PPROFAGENT_TLS_CERT=c.pem", "PPROFAGENT_TLS_KEY=/k",
                            "PPROFAGENT_TLS_CLIENT_CA=ca", NULL});
    CHECK(strcmp(out.tls_address, cases[i].address ? cases[i].address : "") == 0 &&
          out.fault_count == !cases[i].address);
    if (out.fault_count)
      CHECK(strstr(out.faults[0], "PPROFAGENT_TLS_ADDR") && strstr(out.faults[0], cases[i].text));
    char directory[4096], certificate[5000], ca[5000];
    CHECK(getcwd(directory, sizeof directory));
    snprintf(certificate, sizeof certificate, "%s/c.pem", directory);
    snprintf(ca, sizeof ca, "%s/ca", directory);
    if (*out.tls_address)
      CHECK(!strcmp(out.tls_certificate, certificate) && !strcmp(out.tls_key, "/k") &&
            !strcmp(out.tls_client_ca, ca));
  }
  struct config out = read_all((char *[]){"PPROFAGENT_TLS_ADDR=:1", "PPROFAGENT_TLS_CERT=c",
                                          "PPROFAGENT_TLS_CLIENT_CA=", NULL});
  CHECK(out.tls_address[0] == 0 && out.fault_count == 2 &&
        strstr(out.faults[0], "PPROFAGENT_TLS_KEY is not set"));
  CHECK(strstr(out.faults[1], "PPROFAGENT_TLS_CLIENT_CA is not set"));
  static char longest[CONFIG_PATH_MAX + 50] = "PPROFAGENT_TLS_KEY=";
  memset(longest + strlen(longest), 'x', CONFIG_PATH_MAX);
  out = read_all((char *[]){"PPROFAGENT_TLS_ADDR=:1", "PPROFAGENT_TLS_CERT=c", longest,
                            "PPROFAGENT_TLS_CLIENT_CA=c", NULL});
  CHECK(out.tls_address[0] == 0 && out.fault_count == 1);
  static char host[CONFIG_ADDRESS_MAX + 50] = "PPROFAGENT_TLS_ADDR=";
  memset(host + strlen(host), '1', CONFIG_ADDRESS_MAX);
  strcat(host, ":1");
  CHECK(read_one(host).fault_count == 1);
  out = read_all((char *[]){"PPROFAGENT_TLS_KEY=c", "PPROFAGENT_TLS_CERT=c", NULL});
  CHECK(out.fault_count == 1 &&
        strstr(out.faults[0], "PPROFAGENT_TLS_CERT is set, but PPROFAGENT_TLS_ADDR is not"));
}

static void check_paths(void) {
  CHECK(chdir("/usr/bin") == 0);
  struct config out =
      read_all((char *[]){"PPROFAGENT_ADDR=unix:a b", "PPROFAGENT_LOG=../log", NULL});
  CHECK(!strcmp(out.address, "unix:/usr/bin/a b") && !strcmp(out.log, "/usr/bin/../log") &&
        out.fault_count == 0);
  CHECK(!strcmp(read_one("PPROFAGENT_LOG=stderr").log, "stderr") &&
        !strcmp(read_one("PPROFAGENT_ADDR=unix:/x").address, "unix:/x"));
  static char fits[CONFIG_PATH_MAX + 16] = "PPROFAGENT_LOG=";
  memset(fits + 15, 'x', CONFIG_PATH_MAX - 1 - strlen("/usr/bin/"));
  out = read_one(fits);
  CHECK(strlen(out.log) == CONFIG_PATH_MAX - 1 && strncmp(out.log, "/usr/bin/x", 10) == 0 &&
        out.fault_count == 0);
  strcat(fits, "x");
  out = read_one(fits);
  CHECK(out.log[0] == 'x' && out.fault_count == 1 &&
        strstr(out.faults[0], "PPROFAGENT_LOG: the relative path \"xxx"));
}

/* What is not asked for is not written: the page stays the file's. */
static void check_untouched(void) {
  struct config out;
  memset(&out, 0x5a, sizeof out);
  config_read((char *[]){"PPROFAGENT_LOG=stderr", NULL}, &out);
  const unsigned char *late = (const unsigned char *)&out.allowed_uid_count;
  for (size_t i = 0; late + i < (const unsigned char *)(&out + 1); i++) CHECK(late[i] == 0x5a);
}

static void check_trace_buffer(void) {
  static const struct {
    const char *text;
    uint64_t bytes;
    uint32_t faults;
  } cases[] = {{"", 16 << 20, 0},      {"1M", 1 << 20, 0},
               {"64m", 64 << 20, 0},   {"4G", (uint64_t)1 << 32, 0},
               {"1023k", 16 << 20, 1}, {"5G", 16 << 20, 1},
               {"much", 16 << 20, 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char assignment[100];
    snprintf(assignment, sizeof assignment, "PPROFAGENT_TRACE_BUFFER=%s", cases[i].text);
    struct config out = read_one(assignment);
    CHECK(out.trace_buffer == cases[i].bytes && out.fault_count == cases[i].faults);
    if (out.fault_count) CHECK(strstr(out.faults[0], "PPROFAGENT_TRACE_BUFFER"));
  }
}

int main(void) {
  struct config out = read_one("HOME=/");
  CHECK(strcmp(out.address, "127.0.0.1:6060") == 0 && out.memprofile_rate == 524288 &&
        out.blockprofile_rate == 100000 && out.mutexprofile_fraction == 10 &&
        out.cpuprofile_rate == 100 && out.children == CHILDREN_ALL && out.fault_count == 0);

  static const struct {
    const char *text;
    uint64_t rate;
    uint32_t faults;
  } rates[] = {{"0", 0, 0},
               {"1", 1, 0},
               {"64k", 65536, 0},
               {"2M", 2 << 20, 0},
               {"1G", 1 << 30, 0},
               {"", 524288, 0},
               {"-1", 524288, 1},
               {"1kk", 524288, 1},
               {"abc", 524288, 1},
               {"99999999999999999999", 524288, 1},
               {"18014398509481985k", 524288, 1},
               {" 1", 524288, 1},
               {"0x10", 524288, 1}};
  for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
    char assignment[100];
    snprintf(assignment, sizeof assignment, "PPROFAGENT_MEMPROFILERATE=%s", rates[i].text);
    out = read_one(assignment);
    CHECK(out.memprofile_rate == rates[i].rate && out.fault_count == rates[i].faults);
    if (out.fault_count)
      CHECK(strstr(out.faults[0], "PPROFAGENT_MEMPROFILERATE") && strstr(out.faults[0], "524288"));
  }

  static const struct {
    const char *text, *address;
    uint32_t faults;
  } addresses[] = {{"127.0.0.1:0", "127.0.0.1:0", 0},
                   {":7070", "127.0.0.1:7070", 0},
                   {"localhost:1", "127.0.0.1:1", 0},
                   {"[::1]:80", "[::1]:80", 0},
                   {"127.1.2.3:65535", "127.1.2.3:65535", 0},
                   {"unix:/run/x", "unix:/run/x", 0},
                   {"off", "off", 0},
                   {"", "127.0.0.1:6060", 0},
                   {"0.0.0.0:6060", "127.0.0.1:6060", 1},
                   {"192.168.1.1:6060", "127.0.0.1:6060", 1},
                   {"127.0.0.1", "127.0.0.1:6060", 1},
                   {"127.0.0.1:65536", "127.0.0.1:6060", 1},
                   {"127.0.0.1.5:1", "127.0.0.1:6060", 1},
                   {"127.0.0:1", "127.0.0.1:6060", 1},
                   {"unix:", "127.0.0.1:6060", 1},
                   {"example.com:80", "127.0.0.1:6060", 1},
                   {"127.0.0.1:-1", "127.0.0.1:6060", 1},
                   {"127.0.0.256:1", "127.0.0.1:6060", 1},
                   {":", "127.0.0.1:6060", 1}};
  for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
    char assignment[100];
    snprintf(assignment, sizeof assignment, "PPROFAGENT_ADDR=%s", addresses[i].text);
    out = read_one(assignment);
    CHECK(strcmp(out.address, addresses[i].address) == 0 && out.fault_count == addresses[i].faults);
  }
  CHECK(read_one("PPROFAGENT_CPUPROFILERATE=1001").fault_count == 1 &&
        read_one("PPROFAGENT_CPUPROFILERATE=0").fault_count == 1);
  CHECK(read_one("PPROFAGENT_CHILDREN=fork").children == CHILDREN_FORK &&
        read_one("PPROFAGENT_CHILDREN=some").fault_count == 1);
  static char longest[5000] = "PPROFAGENT_LOG=";
  memset(longest + 15, 'x', sizeof longest - 16);
  out = read_one(longest);
  CHECK(out.log[0] == 0 && out.fault_count == 1);
  memcpy(longest, "PPROFAGENT_ADDR", 15);
  longest[15] = '=';
  CHECK(read_one(longest).fault_count == 1);
  check_uids();
  check_trace_buffer();
  check_tls();
  check_paths();
  check_untouched();
  return failures != 0;
}
