/* links: test/agent_memory_libc.c */
/* client_access.h on real connections: each kind of client, alive and closed in each way that
 * leaves an end behind which the kernel calls root's. All of it by sock_diag, and again where that
 * is refused, by /proc. */
#include "agent/http/client_access.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/base/config.h"
#include "check.h"
#include "agent/runtime/sandbox.h"

enum { OTHER = 61234 }; /* a user that is nobody in particular */
static bool is_root;
static char text[CLIENT_ACCESS_TEXT_MAX];
_Atomic bool dumpable_refused; /* shim/base/dumpable.h */

struct connection {
  int client, own;
};

static struct sockaddr_storage address_of(int family, const char *host, unsigned port,
                                          socklen_t *size) {
  struct sockaddr_storage address = {.ss_family = (sa_family_t)family};
  struct sockaddr_in *four = (struct sockaddr_in *)&address;
  struct sockaddr_in6 *six = (struct sockaddr_in6 *)&address;
  inet_pton(family, host, family == AF_INET ? (void *)&four->sin_addr : (void *)&six->sin6_addr);
  if (family == AF_INET) four->sin_port = htons((uint16_t)port);
  else six->sin6_port = htons((uint16_t)port);
  *size = family == AF_INET ? sizeof *four : sizeof *six;
  return address;
}

static unsigned port_of(int descriptor) {
  struct sockaddr_in6 address; /* the port is at the same place in both */
  socklen_t size = sizeof address;
  getsockname(descriptor, (struct sockaddr *)&address, &size);
  return ntohs(address.sin6_port);
}

static int listen_at(int family, const char *host, unsigned port) {
  socklen_t size;
  struct sockaddr_storage address = address_of(family, host, port, &size);
  int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 5) == 0)
    return listener;
  close(listener);
  return -1;
}

static int user_socket(int family, uid_t uid) { /* a socket belongs to the fsuid that made it */
  setfsuid(uid);
  int client = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setfsuid(geteuid());
  return client;
}

static struct connection finish(int listener, int client, int family, const char *host) {
  socklen_t size;
  struct sockaddr_storage address = address_of(family, host, port_of(listener), &size);
  if (connect(client, (struct sockaddr *)&address, size) != 0)
    return (struct connection){client, -1};
  return (struct connection){client, accept4(listener, NULL, NULL, SOCK_CLOEXEC)};
}

static struct connection connect_as(uid_t uid, int listener, int family, const char *host) {
  return finish(listener, user_socket(family, uid), family, host);
}

static void hang_up(struct connection connection) {
  if (connection.client >= 0) close(connection.client);
  if (connection.own >= 0) close(connection.own);
}

static bool lets_in(struct connection connection) {
  return connection.own >= 0 && client_access_check(connection.own, text);
}

/* Refused, because of that user. */
static bool refuses_user(struct connection connection, uid_t uid) {
  char expected[40];
  snprintf(expected, sizeof expected, "user %u may not connect", (unsigned)uid);
  return connection.own >= 0 && !client_access_check(connection.own, text) &&
         strncmp(text, expected, strlen(expected)) == 0;
}

static bool refuses_ownerless(struct connection connection) {
  return connection.own >= 0 && !client_access_check(connection.own, text) &&
         strstr(text, "no owner");
}

static int state_of(int descriptor) {
  struct tcp_info info;
  socklen_t size = sizeof info;
  return getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 ? info.tcpi_state : -1;
}

static void await_state(int descriptor, int state) {
  for (int i = 0; i < 5000 && state_of(descriptor) != state; i++) poll(NULL, 0, 1);
  CHECK(state_of(descriptor) == state);
}

/* Whether the kernel still has anything of that port's connection to the other one. */
static bool is_in_table(unsigned port, unsigned remote_port) {
  char line[512], local[8], remote[8];
  bool found = false;
  FILE *file = fopen("/proc/net/tcp", "r");
  snprintf(local, sizeof local, ":%04X ", port);
  snprintf(remote, sizeof remote, ":%04X ", remote_port);
  while (file && fgets(line, sizeof line, file)) {
    char *at = strstr(line, local);
    found = found || (at && at - line < 20 && strstr(at + 1, remote));
  }
  if (file) fclose(file);
  return found;
}

static void check_users(int listener) {
  struct connection own = connect_as(getuid(), listener, AF_INET, "127.0.0.1");
  CHECK(lets_in(own));
  hang_up(own);
  if (!is_root) return;
  struct connection other = connect_as(OTHER, listener, AF_INET, "127.0.0.1");
  CHECK(refuses_user(other, OTHER));
  CHECK(strstr(text, "belongs to user 0") && strstr(text, "PPROFAGENT_ALLOW_UIDS"));
  config.allowed_uids[0] = OTHER - 1;
  config.allowed_uids[1] = OTHER;
  config.allowed_uid_count = 2;
  CHECK(lets_in(other));
  config.allowed_uid_count = 1;
  CHECK(refuses_user(other, OTHER));
  config.allowed_uid_count = 0;
  CHECK(seteuid(OTHER) == 0); /* for a moment */
  CHECK(refuses_user(other, OTHER) && strstr(text, "(real 0, effective 61234, saved 0)"));
  CHECK(client_access_uid(0) && !client_access_shares(OTHER));
  CHECK(seteuid(0) == 0);
  CHECK(refuses_user(other, OTHER));
  hang_up(other);
}

/* Of each kind one of the own user's, which is let in, and one of another's, which is not. */
static void check_kinds(int listener) {
  uid_t uids[2] = {getuid(), OTHER};
  int six = listen_at(AF_INET6, "::1", 0), dual = listen_at(AF_INET6, "::", 0);
  for (int i = 0; i < (is_root ? 2 : 1); i++) {
    struct connection all[5] = {connect_as(uids[i], listener, AF_INET6, "::ffff:127.0.0.1"),
                                {-1, -1},
                                {-1, -1},
                                {-1, -1},
                                {-1, -1}};
    int bound = user_socket(AF_INET, uids[i]);
    if (setsockopt(bound, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0)
      all[1] = finish(listener, bound, AF_INET, "127.0.0.1");
    else close(bound);
    if (six >= 0) all[2] = connect_as(uids[i], six, AF_INET6, "::1");
    if (dual >= 0) all[3] = connect_as(uids[i], dual, AF_INET, "127.0.0.1");
    if (dual >= 0) all[4] = connect_as(uids[i], dual, AF_INET6, "::1");
    for (int k = 0; k < 5; k++) {
      if (all[k].own < 0 && k > 0) continue; /* no IPv6 here */
      CHECK(i ? refuses_user(all[k], OTHER) : lets_in(all[k]));
      hang_up(all[k]);
    }
  }
  if (six >= 0) close(six);
  if (dual >= 0) close(dual);
}

/* Ends that a process still holds, in every state that they can have. */
static void check_half_closed(int listener) {
  uid_t uid = is_root ? OTHER : getuid();
  struct connection said_all = connect_as(uid, listener, AF_INET, "127.0.0.1");
  struct connection heard_all = connect_as(uid, listener, AF_INET, "127.0.0.1");
  shutdown(said_all.client, SHUT_WR);
  CHECK(is_root ? refuses_user(said_all, OTHER) : lets_in(said_all));
  await_state(said_all.client, TCP_FIN_WAIT2);
  CHECK(is_root ? refuses_user(said_all, OTHER) : lets_in(said_all));
  shutdown(heard_all.own, SHUT_WR);
  await_state(heard_all.client, TCP_CLOSE_WAIT);
  CHECK(is_root ? refuses_user(heard_all, OTHER) : lets_in(heard_all));
  hang_up(said_all);
  hang_up(heard_all);
}

static void check_closed(int listener) {
  static const char request[] = "GET / HTTP/1.1\r\n\r\n";
  const struct linger reset = {.l_onoff = 1};
  for (int kind = 0; kind < 4; kind++) {
    struct connection gone = connect_as(is_root ? OTHER : getuid(), listener, AF_INET, "127.0.0.1");
    CHECK(send(gone.client, request, sizeof request - 1, 0) == sizeof request - 1);
    if (kind == 1) { /* nothing but TIME_WAIT is left */
      shutdown(gone.client, SHUT_WR);
      await_state(gone.client, TCP_FIN_WAIT2);
    } else if (kind == 2) {
      setsockopt(gone.client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    } else if (kind == 3) { /* more than fits: an orphan with data on the way */
      static const char data[1 << 16];
      while (send(gone.client, data, sizeof data, MSG_DONTWAIT) > 0) {}
    }
    close(gone.client);
    gone.client = -1;
    CHECK(refuses_ownerless(gone));
    hang_up(gone);
  }
}

/* Where the connection's end is gone the kernel's lookup finds a socket that listens on its port.
 */
static void check_listener_in_its_place(int listener) {
  if (!is_root) return;
  int client = user_socket(AF_INET, OTHER), on = 1, seconds = 1;
  socklen_t size;
  struct sockaddr_storage address = address_of(AF_INET, "127.0.0.5", 0, &size);
  setsockopt(client, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(client, IPPROTO_TCP, TCP_LINGER2, &seconds, sizeof seconds);
  CHECK(bind(client, (struct sockaddr *)&address, size) == 0);
  unsigned port = port_of(client);
  struct connection gone = finish(listener, client, AF_INET, "127.0.0.1");
  int in_its_place = listen_at(AF_INET, "0.0.0.0", port);
  CHECK(in_its_place >= 0 && refuses_user(gone, OTHER));
  shutdown(client, SHUT_WR);
  await_state(client, TCP_FIN_WAIT2);
  close(client);
  gone.client = -1;
  for (int i = 0; i < 1000 && is_in_table(port, port_of(listener)); i++) {
    CHECK(refuses_ownerless(gone));
    poll(NULL, 0, 10);
  }
  CHECK(!is_in_table(port, port_of(listener)) && refuses_ownerless(gone));
  hang_up(gone);
  close(in_its_place);
}

static struct connection connect_unix(void) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  socklen_t size = sizeof name;
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
      client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bind(listener, (struct sockaddr *)&name,
       sizeof(sa_family_t)); /* the kernel chooses an abstract name */
  getsockname(listener, (struct sockaddr *)&name, &size);
  listen(listener, 1);
  if (is_root) CHECK(seteuid(OTHER) == 0);
  CHECK(connect(client, (struct sockaddr *)&name, size) == 0);
  if (is_root) CHECK(seteuid(0) == 0);
  struct connection connection = {client, accept4(listener, NULL, NULL, SOCK_CLOEXEC)};
  close(listener);
  return connection;
}

static void check_unix(void) {
  struct connection other = connect_unix();
  CHECK(is_root ? refuses_user(other, OTHER) : lets_in(other));
  config.allowed_uids[0] = OTHER;
  config.allowed_uid_count = 1;
  CHECK(lets_in(other));
  config.allowed_uid_count = 0;
  hang_up(other);
}

static unsigned descriptors(void) {
  unsigned count = 0;
  DIR *directory = opendir("/proc/self/fd");
  while (readdir(directory)) count++;
  closedir(directory);
  return count;
}

static void check_all(void) {
  int listener = listen_at(AF_INET, "127.0.0.1", 0);
  CHECK(listener >= 0);
  unsigned before = descriptors();
  check_users(listener);
  check_kinds(listener);
  check_half_closed(listener);
  check_closed(listener);
  check_listener_in_its_place(listener);
  check_unix();
  CHECK(descriptors() == before);
  close(listener);
}

/* From here on sockets of AF_NETLINK cannot be had, and nothing opened if that is said. */
static bool forbid(bool netlink_kills, bool files_too) {
  const uint32_t no = SECCOMP_RET_ERRNO | EACCES;
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, files_too ? no : SECCOMP_RET_ALLOW),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, netlink_kills ? SECCOMP_RET_KILL_PROCESS : no),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* A container's filter, and one of the program's own making, which may kill. */
static int without_netlink(void) {
  CHECK(forbid(false, false));
  sandbox_remember();
  check_all();
  CHECK(forbid(true, false));
  check_all();
  return failures;
}

static int without_netlink_and_files(void) {
  int listener = listen_at(AF_INET, "127.0.0.1", 0);
  struct connection own = connect_as(getuid(), listener, AF_INET, "127.0.0.1");
  CHECK(lets_in(own) && forbid(false, true));
  CHECK(!lets_in(own) && strstr(text, "does not tell who connects") &&
        strstr(text, "PPROFAGENT_ADDR=unix:PATH"));
  struct connection other = connect_unix();
  CHECK(is_root ? refuses_user(other, OTHER) : lets_in(other));
  return failures;
}

static int without_descriptors(void) {
  int listener = listen_at(AF_INET, "127.0.0.1", 0);
  struct connection own = connect_as(getuid(), listener, AF_INET, "127.0.0.1");
  const struct rlimit none = {0, 0};
  CHECK(lets_in(own) && setrlimit(RLIMIT_NOFILE, &none) == 0);
  CHECK(!lets_in(own) && strstr(text, "out of descriptors"));
  return failures;
}

/* Users that have no number in this namespace, which here is everybody, all look the same. */
static int in_user_namespace(void) {
  int listener = listen_at(AF_INET, "127.0.0.1", 0);
  if (unshare(CLONE_NEWUSER) != 0) return 0; /* not allowed here */
  is_root = false;
  CHECK(getuid() == 65534 && !client_access_uid(65534) && client_access_uid(0));
  struct connection unmapped =
      finish(listener, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), AF_INET, "127.0.0.1");
  CHECK(refuses_user(unmapped, 65534));
  CHECK(lets_in(connect_unix())); /* the file's mode has decided */
  return failures;
}

/* Which number they all have is the administrator's choice. (The real one is everybody's.) */
static int with_another_overflow_uid(void) {
  char file[] = "/tmp/unit_client_access.XXXXXX";
  int descriptor = mkstemp(file);
  CHECK(descriptor >= 0 && dprintf(descriptor, "%d\n", OTHER) > 0);
  bool done = unshare(CLONE_NEWNS) == 0 &&
              mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
              mount(file, "/proc/sys/kernel/overflowuid", NULL, MS_BIND, NULL) == 0;
  unlink(file);
  config.allowed_uids[0] = OTHER;
  config.allowed_uids[1] = 65534;
  config.allowed_uid_count = 2;
  CHECK(client_access_uid(OTHER) && client_access_uid(65534));
  if (!done || unshare(CLONE_NEWUSER) != 0) return failures; /* not allowed here */
  CHECK(!client_access_uid(OTHER) && client_access_uid(65534));
  return failures;
}

/* Root's that became another user's for good: his; until it asks not to be looked into. */
static int given_up_root(void) {
  if (!is_root) return 0;
  int listener = listen_at(AF_INET, "127.0.0.1", 0);
  struct connection other = connect_as(OTHER, listener, AF_INET, "127.0.0.1");
  struct connection root_s = connect_as(0, listener, AF_INET, "127.0.0.1");
  CHECK(refuses_user(other, OTHER) && lets_in(root_s));
  CHECK(setresuid(OTHER, OTHER, 0) == 0 && refuses_user(other, OTHER) && lets_in(root_s));
  CHECK(setresuid(OTHER, OTHER, OTHER) == 0 && prctl(PR_GET_DUMPABLE) == 0);
  CHECK(lets_in(other) && lets_in(root_s));
  dumpable_refused = true;
  CHECK(refuses_user(other, OTHER) && strstr(text, "not dumpable") && lets_in(root_s));
  CHECK(client_access_shares(OTHER) && !client_access_uid(OTHER));
  CHECK(prctl(PR_SET_DUMPABLE, 1) == 0 && lets_in(other));
  return failures;
}

static void in_child(int (*check)(void)) {
  int status = 0;
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    int failed = check();
    fflush(stdout);
    _exit(failed != 0);
  }
  CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(void) {
  is_root = getuid() == 0;
  sandbox_remember();
  check_all();
  in_child(without_netlink);
  in_child(without_netlink_and_files);
  in_child(without_descriptors);
  in_child(in_user_namespace);
  in_child(with_another_overflow_uid);
  in_child(given_up_root);
  CHECK(client_access_uid(getuid()) && client_access_uid(0) && !client_access_uid(OTHER) &&
        !client_access_uid((uid_t)-1));
  config.allowed_uids[0] = 65534;
  config.allowed_uid_count = 1;
  CHECK(client_access_uid(65534));
  return failures != 0;
}
