/* set*id in every form: libc's, by system call, in line; capabilities; and the other threads'
 * credentials afterwards. See differ.h. */
#define _GNU_SOURCE
#include <dirent.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <time.h>

#include "differ.h"

static long in_line(long number, long a, long b, long c) {
  long result;
#ifdef __x86_64__
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "0"(number), "D"(a), "S"(b), "d"(c)
                   : "rcx", "r11", "memory");
#else
  result = syscall(number, a, b, c);
  if (result < 0) result = -errno;
#endif
  errno = result < 0 ? (int)-result : 0;
  return result < 0 ? -1 : result;
}

static int ids_of(const char *path, char *text, size_t size) {
  char line[512];
  size_t length = 0;
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  while (fgets(line, sizeof line, file))
    if (strncmp(line, "Uid:", 4) == 0 || strncmp(line, "Gid:", 4) == 0 ||
        strncmp(line, "Groups:", 7) == 0 || strncmp(line, "Cap", 3) == 0 ||
        strncmp(line, "NoNewPrivs:", 11) == 0)
      length += (size_t)snprintf(text + length, size - length, "%s", line);
  fclose(file);
  return 1;
}

/* Threads whose credentials are not this one's. */
static int others(void) {
  char own[2048] = "", other[2048], path[300];
  snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)gettid());
  if (!ids_of(path, own, sizeof own)) return -1;
  /* By number: for opendir an agent's thread steps aside. */
  DIR *directory = fdopendir((int)syscall(SYS_open, "/proc/self/task", O_RDONLY | O_DIRECTORY));
  int count = 0;
  for (struct dirent *entry; directory && (entry = readdir(directory));) {
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
    if (ids_of(path, other, sizeof other)) count += strcmp(own, other) != 0;
  }
  if (directory) closedir(directory);
  return count;
}

static void now_is(void) {
  uid_t r, e, s;
  gid_t rg, eg, sg;
  getresuid(&r, &e, &s), getresgid(&rg, &eg, &sg);
  say("uid %d %d %d, gid %d %d %d, groups %d\n", (int)r, (int)e, (int)s, (int)rg, (int)eg, (int)sg,
      getgroups(0, NULL));
}

/* For a second they may lag behind a system call that nobody sees. */
static void all_follow(void) {
  struct timespec pause = {0, 10000000};
  int count = others();
  for (int i = 0; i < 300 && count > 0; i++) {
    nanosleep(&pause, NULL);
    count = others();
  }
  say("threads with other credentials: %d\n", count);
}

static void finish(void) {
  now_is();
  all_follow();
  TRY(setuid(0));
  TRY(seteuid(0));
  TRY(setresuid(1000, 1000, 1000));
  TRY(setgid(0));
  now_is();
  all_follow();
  say("id: ");
  say("id exits %d\n", system("/usr/bin/id -u") >> 8);
  ordinary_life();
}

static gid_t groups[] = {5, 6, 7};

#define FORM(name, calls)                \
  static void name(const char *unused) { \
    (void)unused;                        \
    calls;                               \
    finish();                            \
  }

FORM(libc_setuid, TRY(setuid(1000)))
FORM(libc_seteuid, TRY(seteuid(1000)); TRY(seteuid(0)); TRY(seteuid(1001)))
FORM(libc_setreuid, TRY(setreuid(1000, 1001)))
FORM(libc_setresuid, TRY(setresuid(1000, 1001, 1002)))
FORM(libc_setgid, TRY(setgid(1000)); TRY(setegid(0)))
FORM(libc_setresgid, TRY(setresgid(1, 2, 3)); TRY(setregid(2, 1)))
FORM(libc_setgroups, TRY(setgroups(3, groups)); TRY(setgroups(0, NULL)))
FORM(libc_initgroups, TRY(initgroups("daemon", 1)))
FORM(libc_setfsuid, setfsuid(1000); setfsgid(1000); say("fs %d\n", setfsuid((uid_t)-1)))
FORM(libc_drop, TRY(setgroups(0, NULL)); TRY(setresgid(9, 9, 9)); TRY(setresuid(9, 9, 9)))
FORM(syscall_setuid, TRY(syscall(SYS_setuid, 1000)))
FORM(syscall_setreuid, TRY(syscall(SYS_setreuid, 1000, 1001)))
FORM(syscall_setresuid, TRY(syscall(SYS_setresuid, 1000, 1001, 1002)))
FORM(syscall_setresuid_all, TRY(syscall(SYS_setresuid, 1000, 1000, 1000)))
FORM(syscall_setgid, TRY(syscall(SYS_setgid, 1000)))
FORM(syscall_setresgid, TRY(syscall(SYS_setresgid, 1000, 1000, 1000)))
FORM(syscall_setgroups, TRY(syscall(SYS_setgroups, 3, groups)))
FORM(syscall_setfsuid, syscall(SYS_setfsuid, 1000); say("fs %ld\n", syscall(SYS_setfsuid, -1)))
FORM(syscall_then_libc, TRY(syscall(SYS_setresuid, -1, 1000, -1)); TRY(setuid(0)); TRY(setuid(0)))
FORM(inline_setuid, TRY(in_line(SYS_setuid, 1000, 0, 0)))
FORM(inline_setresuid, TRY(in_line(SYS_setresuid, 1000, 1000, 1000)))
FORM(inline_setresgid, TRY(in_line(SYS_setresgid, 1000, 1000, 1000)))
FORM(inline_setgroups, TRY(in_line(SYS_setgroups, 3, (long)groups, 0)))

static int capabilities(int set, unsigned long long permitted, unsigned long long effective) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {
      {(unsigned)effective, (unsigned)permitted, 0},
      {(unsigned)(effective >> 32), (unsigned)(permitted >> 32), 0}};
  return (int)syscall(set ? SYS_capset : SYS_capget, &header, data);
}

enum { SETUID_AND_GID = 1 << CAP_SETUID | 1 << CAP_SETGID };

FORM(keep_capabilities, TRY(prctl(PR_SET_KEEPCAPS, 1)); TRY(setresuid(1000, 1000, 1000));
     TRY(capabilities(1, SETUID_AND_GID, SETUID_AND_GID)))
FORM(only_setuid, TRY(capabilities(1, SETUID_AND_GID, SETUID_AND_GID)))
FORM(not_effective, TRY(capabilities(1, SETUID_AND_GID, 0)))
FORM(none, TRY(capabilities(1, 0, 0)))
FORM(securebits, TRY(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_NOROOT)))
FORM(bounding, TRY(prctl(PR_CAPBSET_DROP, CAP_SETUID)); TRY(prctl(PR_CAPBSET_READ, CAP_SETUID)))
FORM(ambient, TRY(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)))
FORM(no_new_privileges, TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); TRY(setuid(1000)))

static void *drop(void *argument) {
  TRY(setresuid(1000, 1000, 1000));
  now_is();
  return argument;
}

static void from_a_thread(const char *name) {
  pthread_t thread;
  pthread_create(&thread, NULL, drop, NULL);
  pthread_join(thread, NULL);
  finish();
  (void)name;
}

/* A thread's own, for the sake of one request (file servers): the others keep theirs. */
static void *impersonate(void *argument) {
  TRY(syscall(SYS_setgroups, 3, groups));
  TRY(syscall(SYS_setresuid, -1, 1000, -1));
  TRY(syscall(SYS_setresuid, -1, 0, -1));
  TRY(syscall(SYS_setgroups, 0, NULL));
  return argument;
}

static void one_thread_for_a_while(const char *name) {
  pthread_t thread;
  pthread_create(&thread, NULL, impersonate, NULL);
  pthread_join(thread, NULL);
  now_is();
  finish();
  (void)name;
}

static void not_dumpable(const char *name) {
  TRY(setresuid(1000, 1000, 1000));
  TRY(prctl(PR_GET_DUMPABLE));
  TRY(access("/proc/self/mem", R_OK | W_OK));
  TRY(open("/proc/self/environ", O_RDONLY | O_CLOEXEC));
  TRY(prctl(PR_SET_DUMPABLE, 1));
  TRY(open("/proc/self/environ", O_RDONLY | O_CLOEXEC));
  ordinary_life();
  (void)name;
}

/* In one process, over and over. */
static void to_and_fro(const char *name) {
  int failed = 0;
  for (int i = 0; i < 500; i++) {
    failed += seteuid(1000) != 0;
    free(keep(malloc(100000)));
    failed += seteuid(0) != 0;
    failed += syscall(SYS_setresuid, -1, 1000, -1) != 0;
    failed += syscall(SYS_setresuid, -1, 0, -1) != 0;
  }
  say("%d failed\n", failed);
  finish();
  (void)name;
}

#define CASE(name) \
  { #name, name }
static const struct differ_case cases[] = {
    CASE(libc_setuid),
    CASE(libc_seteuid),
    CASE(libc_setreuid),
    CASE(libc_setresuid),
    CASE(libc_setgid),
    CASE(libc_setresgid),
    CASE(libc_setgroups),
    CASE(libc_initgroups),
    CASE(libc_setfsuid),
    CASE(libc_drop),
    CASE(syscall_setuid),
    CASE(syscall_setreuid),
    CASE(syscall_setresuid),
    CASE(syscall_setresuid_all),
    CASE(syscall_setgid),
    CASE(syscall_setresgid),
    CASE(syscall_setgroups),
    CASE(syscall_setfsuid),
    CASE(syscall_then_libc),
    CASE(inline_setuid),
    CASE(inline_setresuid),
    CASE(inline_setresgid),
    CASE(inline_setgroups),
    CASE(keep_capabilities),
    CASE(only_setuid),
    CASE(not_effective),
    CASE(none),
    CASE(securebits),
    CASE(bounding),
    CASE(ambient),
    CASE(no_new_privileges),
    CASE(from_a_thread),
    CASE(one_thread_for_a_while),
    CASE(not_dumpable),
    CASE(to_and_fro),
};

DIFFER_MAIN(cases)
