/* links: shim/config.c */
/* The environment: defaults, suffixes, and one fault a bad value with the default used. */
#include "../shim/config.h"

#include <stdio.h>
#include <string.h>

#include "check.h"


static struct config read_one(const char *assignment) {
  char *environment[] = {(char *)assignment, NULL};
  struct config out;
  config_read(environment, &out);
  return out;
}

int main(void) {
  struct config out = read_one("HOME=/");
  CHECK(strcmp(out.address, "127.0.0.1:6060") == 0 && out.memprofile_rate == 524288 && out.blockprofile_rate == 100000 &&
        out.mutexprofile_fraction == 10 && out.cpuprofile_rate == 100 && out.children == CHILDREN_ALL && out.fault_count == 0);

  static const struct { const char *text; uint64_t rate; uint32_t faults; } rates[] = {
      {"0", 0, 0}, {"1", 1, 0}, {"64k", 65536, 0}, {"2M", 2 << 20, 0}, {"1G", 1 << 30, 0}, {"", 524288, 0},
      {"-1", 524288, 1}, {"1kk", 524288, 1}, {"abc", 524288, 1}, {"99999999999999999999", 524288, 1}, {"18014398509481985k", 524288, 1},
      {" 1", 524288, 1}, {"0x10", 524288, 1}};
  for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
    char assignment[100];
    snprintf(assignment, sizeof assignment, "PPROFAGENT_MEMPROFILERATE=%s", rates[i].text);
    out = read_one(assignment);
    CHECK(out.memprofile_rate == rates[i].rate && out.fault_count == rates[i].faults);
    if (out.fault_count) CHECK(strstr(out.faults[0], "PPROFAGENT_MEMPROFILERATE") && strstr(out.faults[0], "524288"));
  }

  static const struct { const char *text, *address; uint32_t faults; } addresses[] = {
      {"127.0.0.1:0", "127.0.0.1:0", 0}, {":7070", "127.0.0.1:7070", 0}, {"localhost:1", "127.0.0.1:1", 0}, {"[::1]:80", "[::1]:80", 0},
      {"127.1.2.3:65535", "127.1.2.3:65535", 0}, {"unix:/run/x", "unix:/run/x", 0}, {"off", "off", 0}, {"", "127.0.0.1:6060", 0},
      {"0.0.0.0:6060", "127.0.0.1:6060", 1}, {"192.168.1.1:6060", "127.0.0.1:6060", 1}, {"127.0.0.1", "127.0.0.1:6060", 1},
      {"127.0.0.1:65536", "127.0.0.1:6060", 1}, {"127.0.0.1.5:1", "127.0.0.1:6060", 1}, {"127.0.0:1", "127.0.0.1:6060", 1},
      {"unix:", "127.0.0.1:6060", 1}, {"example.com:80", "127.0.0.1:6060", 1}, {"127.0.0.1:-1", "127.0.0.1:6060", 1},
      {"127.0.0.256:1", "127.0.0.1:6060", 1}, {":", "127.0.0.1:6060", 1}};
  for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
    char assignment[100];
    snprintf(assignment, sizeof assignment, "PPROFAGENT_ADDR=%s", addresses[i].text);
    out = read_one(assignment);
    CHECK(strcmp(out.address, addresses[i].address) == 0 && out.fault_count == addresses[i].faults);
  }
  CHECK(read_one("PPROFAGENT_CPUPROFILERATE=1001").fault_count == 1 && read_one("PPROFAGENT_CPUPROFILERATE=0").fault_count == 1);
  CHECK(read_one("PPROFAGENT_CHILDREN=fork").children == CHILDREN_FORK && read_one("PPROFAGENT_CHILDREN=some").fault_count == 1);
  static char longest[5000] = "PPROFAGENT_LOG=";
  memset(longest + 15, 'x', sizeof longest - 16);
  out = read_one(longest);
  CHECK(out.log[0] == 0 && out.fault_count == 1);
  memcpy(longest, "PPROFAGENT_ADDR", 15);
  longest[15] = '=';
  CHECK(read_one(longest).fault_count == 1);
  return failures != 0;
}
