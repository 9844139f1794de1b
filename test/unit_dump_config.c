/* PPROFAGENT_DUMP and what belongs to it, and the names of files that are made of it. */
#include "shim/base/dump_config.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/dump/dump_name.h"
#include "check.h"

static struct config faults;

static const struct dump_config *read_all(char *const *environment) {
  memset(&dump_config, 0, sizeof dump_config);
  memset(&faults, 0, sizeof faults);
  config_read(environment, &faults);
  return &dump_config;
}

static const struct dump_config *read_two(const char *first, const char *second) {
  return read_all((char *[]){"HOME=/", (char *)first, (char *)second, NULL});
}

static void check_patterns(void) {
  static const struct {
    const char *text, *pattern;
    uint32_t faults;
  } cases[] = {{"/tmp", "/tmp/%n-%p-%t-%k.pb.gz", 0},
               {"/tmp/", "/tmp/%n-%p-%t-%k.pb.gz", 0},
               {"/tmp/%n/", "/tmp/%n/%n-%p-%t-%k.pb.gz", 0},
               {"/tmp/a.pb.gz", "/tmp/a.pb.gz", 0},
               {"/tmp/%k-%%", "/tmp/%k-%%", 0},
               {"out", "/usr/bin/out/%n-%p-%t-%k.pb.gz", 0},
               {"%p.pb.gz", "/usr/bin/%p.pb.gz", 0},
               {"/tmp/%x", "", 1},
               {"/tmp/%", "", 1},
               {"/tmp/%x/", "", 1}};
  CHECK(chdir("/usr/bin") == 0);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char assignment[100];
    snprintf(assignment, sizeof assignment, "PPROFAGENT_DUMP=%s", cases[i].text);
    CHECK(strcmp(read_two(assignment, NULL)->pattern, cases[i].pattern) == 0);
    CHECK(faults.fault_count == cases[i].faults);
    CHECK(dump_config.at_exit && dump_config.interval_seconds == 0 && dump_config.keep == 16 &&
          dump_config.kinds == 1u << DUMP_HEAP && strcmp(dump_config.on, "exit") == 0);
  }
  static char longest[CONFIG_PATH_MAX + 50] = "PPROFAGENT_DUMP=/";
  for (size_t size = 17; size < CONFIG_PATH_MAX + 40; size++) {
    longest[size] = 'x';
    bool fits = size - 15 + strlen("/%n-%p-%t-%k.pb.gz") < CONFIG_PATH_MAX;
    CHECK((*read_two(longest, NULL)->pattern == '/') == fits);
    CHECK(faults.fault_count == !fits);
  }
}

static void check_moments(void) {
  static const struct {
    const char *text;
    bool at_exit;
    uint64_t interval;
    uint32_t faults;
  } cases[] = {{"", true, 0, 0},
               {"exit", true, 0, 0},
               {"interval:90s", false, 90, 0},
               {"interval:10m, exit", true, 600, 0},
               {",interval:2h,", false, 7200, 0},
               {"interval:10", false, 10, 0},
               {"interval:0s", true, 0, 1},
               {"interval:1km", true, 0, 1},
               {"interval:99999999999999999999h", true, 0, 1},
               {"interval:", true, 0, 1},
               {"interval:-1s", true, 0, 1},
               {"interval:9000h", true, 0, 1},
               {"rss:2G", false, 0, 0},
               {"rss:0", true, 0, 1},
               {"rss:much", true, 0, 1},
               {"peak:20%", false, 0, 0},
               {"peak:20", true, 0, 1},
               {"peak:0%", true, 0, 1},
               {"peak:10001%", true, 0, 1},
               {"peak:99999999999999999999999%", true, 0, 1},
               {"peak:%", true, 0, 1},
               {"oom", false, 0, 0},
               {"signal:KILL", true, 0, 1},
               {"noon,interval:1s", false, 1, 1},
               {"exits", true, 0, 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char assignment[100];
    snprintf(assignment, sizeof assignment, "PPROFAGENT_DUMP_ON=%s", cases[i].text);
    read_two(assignment, "PPROFAGENT_DUMP=/tmp");
    CHECK(dump_config.at_exit == cases[i].at_exit);
    CHECK(dump_config.interval_seconds == cases[i].interval);
    CHECK(faults.fault_count == cases[i].faults);
    if (faults.fault_count) CHECK(strstr(faults.faults[0], "PPROFAGENT_DUMP_ON: \""));
  }
}

static void check_the_rest(void) {
  read_two("PPROFAGENT_DUMP=/tmp", "PPROFAGENT_DUMP_ON=rss:2G,peak:150%,oom");
  CHECK(dump_config.rss_bytes == (uint64_t)2 << 30 && dump_config.peak_percent == 150 &&
        dump_config.on_shortage && !dump_config.at_exit && !faults.dumps_at_exit);
  CHECK(read_two("PPROFAGENT_DUMP=/tmp", NULL)->at_exit && faults.dumps_at_exit);
  const uint64_t ending = 1 << (SIGTERM - 1) | 1 << (SIGINT - 1) | 1 << (SIGHUP - 1);
  CHECK(faults.dump_signals == ending);
  read_two("PPROFAGENT_DUMP=/tmp", "PPROFAGENT_DUMP_ON=signal:USR2,signal:SIGUSR1");
  CHECK(faults.dump_signals == (1 << (SIGUSR1 - 1) | 1 << (SIGUSR2 - 1)) && !faults.fault_count);
  read_two("PPROFAGENT_DUMP=/tmp", "PPROFAGENT_DUMP_ON=signal:SEGV");
  CHECK(faults.dump_signals == ending && faults.fault_count == 1); /* what is left is exit */
  read_two("PPROFAGENT_DUMP=/tmp", "PPROFAGENT_DUMP_PROFILES=heap,cpu threadcreate");
  CHECK(dump_config.kinds == (1u << DUMP_HEAP | 1u << DUMP_CPU | 1u << DUMP_THREADCREATE));
  read_two("PPROFAGENT_DUMP=/tmp", "PPROFAGENT_DUMP_PROFILES=heat");
  CHECK(dump_config.kinds == 1u << DUMP_HEAP && faults.fault_count == 1);
  read_two("PPROFAGENT_DUMP=/tmp/%p", "PPROFAGENT_DUMP_PROFILES=mutex,block");
  CHECK(dump_config.kinds == 1u << DUMP_BLOCK && faults.fault_count == 1 &&
        strstr(faults.faults[0], "has no %k"));
  CHECK(read_two("PPROFAGENT_DUMP=/tmp", "PPROFAGENT_DUMP_KEEP=3")->keep == 3);
  CHECK(read_two("PPROFAGENT_DUMP=/tmp", "PPROFAGENT_DUMP_KEEP=0")->keep == 16);
  CHECK(faults.fault_count == 1 && strstr(faults.faults[0], "PPROFAGENT_DUMP_KEEP: \"0\""));
  CHECK(read_two("PPROFAGENT_DUMP=/tmp", "PPROFAGENT_DUMP_KEEP=10001")->keep == 16);
  CHECK(!*read_two("PPROFAGENT_DUMP_ON=exit", NULL)->pattern && !dump_config.at_exit);
  CHECK(faults.fault_count == 1 && strstr(faults.faults[0], "PPROFAGENT_DUMP is not set"));
  CHECK(!*read_two("PPROFAGENT_DUMP=", NULL)->pattern && !dump_config.at_exit);
  CHECK(!*read_two("HOME=/", NULL)->pattern && faults.fault_count == 0);
}

static const char *named(const char *pattern, const char *program, int64_t seconds) {
  static char out[100];
  const struct dump_name name = {program, "heap", 4711, seconds * 1000000000 + 7999999};
  CHECK(dump_name_write(pattern, &name, out, sizeof out));
  return out;
}

static void check_names(void) {
  CHECK(!strcmp(named("/a/%n-%p-%k%%", "redis-server", 0), "/a/redis-server-4711-heap%"));
  CHECK(!strcmp(named("%n", "../../etc/passwd", 0), "_._.._etc_passwd"));
  CHECK(!strcmp(named("%n", ".hidden", 0), "_hidden") && !strcmp(named("%n", "", 0), "unknown"));
  CHECK(!strcmp(named("%n", "a b\n\x1b[0m\xc3\xa4/", 0), "a_b___0m___"));
  CHECK(!strcmp(named("/x%y/%q%", "", 0), "/x%y/%q%"));
  /* date -u -d @SECONDS +%Y%m%dT%H%M%S */
  CHECK(!strcmp(named("%t", "", 0), "19700101T000000.007Z"));
  CHECK(!strcmp(named("%t", "", 951782399), "20000228T235959.007Z"));
  CHECK(!strcmp(named("%t", "", 951782400), "20000229T000000.007Z"));
  CHECK(!strcmp(named("%t", "", 1764450000), "20251129T210000.007Z"));
  CHECK(!strcmp(named("%t", "", 1798761599), "20261231T235959.007Z"));
  CHECK(!strcmp(named("%t", "", 4107542400), "21000301T000000.007Z"));
  const struct dump_name name = {"abc", "heap", 1, 0};
  char out[12] = "", guard = out[11];
  CHECK(dump_name_write("%n-%k-%p", &name, out, 11) && strcmp(out, "abc-heap-1") == 0);
  CHECK(!dump_name_write("%n-%k-%p", &name, out, 10) && out[11] == guard);
}

int main(void) {
  check_patterns();
  check_moments();
  check_the_rest();
  check_names();
  return failures != 0;
}
