#include "client_access.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim/base/config.h"
#include "process_owner.h"
#include "agent/runtime/sandbox.h"
#include "agent/runtime/unmapped_user.h"

enum {
  LOOPBACK_INTERFACE = 1, /* in every network namespace; finds sockets that are bound to it as well
                             as those bound to none */
  PORT_ID_TRIES = 4,
  ANSWER_MAX = 1024,
  READ_SIZE = 4096
};

/* The connection as the client's own socket has it. IPv4 addresses are mapped (::ffff:127.0.0.1);
 * all in network order. */
struct client_socket {
  int family; /* of the addresses; a socket of AF_INET6 may have those of AF_INET */
  struct in6_addr address, remote_address;
  in_port_t port, remote_port;
};

enum owner {
  OWNER_FOUND,
  OWNER_GONE /* the client has closed its socket */,
  OWNER_UNKNOWN,
  OWNER_NO_DESCRIPTOR
};

/* ---- users ---- */

static bool is_listed(uid_t uid) {
  for (uint32_t i = 0; i < config.allowed_uid_count; i++)
    if (config.allowed_uids[i] == uid) return true;
  return false;
}

static bool may_look(uid_t uid) {
  return uid == 0 || process_owner_may_look(uid) || is_listed(uid);
}

static bool is_somebody(uid_t uid) { return uid != unmapped_user(); }

bool client_access_uid(uid_t uid) { return may_look(uid) && is_somebody(uid); }

bool client_access_shares(uid_t uid) {
  return (may_look(uid) || process_owner_is(uid)) && is_somebody(uid);
}

/* ---- who owns the client's end of a TCP connection ---- */

static bool to_in6(const struct sockaddr_storage *from, struct in6_addr *address, in_port_t *port) {
  const struct sockaddr_in *four = (const struct sockaddr_in *)from;
  const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)from;
  if (from->ss_family == AF_INET6) {
    *address = six->sin6_addr;
    *port = six->sin6_port;
    return true;
  }
  *address = (struct in6_addr){.s6_addr32 = {0, 0, htonl(0xffff), four->sin_addr.s_addr}};
  *port = four->sin_port;
  return from->ss_family == AF_INET;
}

static bool find_client_socket(int descriptor, struct client_socket *out) {
  struct sockaddr_storage client, own;
  socklen_t client_size = sizeof client, own_size = sizeof own;
  if (getpeername(descriptor, (struct sockaddr *)&client, &client_size) != 0) return false;
  if (getsockname(descriptor, (struct sockaddr *)&own, &own_size) != 0) return false;
  if (!to_in6(&client, &out->address, &out->port) ||
      !to_in6(&own, &out->remote_address, &out->remote_port))
    return false;
  out->family = IN6_IS_ADDR_V4MAPPED(&out->address) ? AF_INET : AF_INET6;
  return true;
}

/* A socket that a process still holds: of those that were closed (TIME_WAIT, or data on the way)
 * the kernel says uid 0, inode 0. */
static enum owner judge(unsigned state, uint32_t inode, uint32_t found_uid, uid_t *uid) {
  static const unsigned open_states = 1 << TCP_ESTABLISHED | 1 << TCP_FIN_WAIT1 |
                                      1 << TCP_FIN_WAIT2 | 1 << TCP_CLOSE_WAIT | 1 << TCP_LAST_ACK |
                                      1 << TCP_CLOSING;
  if (inode == 0 || state >= 32 || !(open_states >> state & 1)) return OWNER_GONE;
  *uid = found_uid;
  return OWNER_FOUND;
}

/* A number that no program's own netlink socket has: those of the kernel's choice are the pid, or a
 * little below 0. */
static bool bind_port_id(int netlink) {
  struct sockaddr_nl own = {.nl_family = AF_NETLINK};
  for (unsigned i = 0; i < PORT_ID_TRIES;
       i++) { /* threads of other pid namespaces may have our number */
    own.nl_pid = 0x80000000u | i << 24 | (unsigned)syscall(SYS_gettid);
    if (bind(netlink, (const struct sockaddr *)&own, sizeof own) == 0) return true;
  }
  return false;
}

static void copy_address(int family, __be32 to[4], const struct in6_addr *from) {
  if (family == AF_INET) to[0] = from->s6_addr32[3];
  else memcpy(to, from, sizeof *from);
}

static bool is_same_address(int family, const __be32 found[4], const struct in6_addr *expected) {
  if (family == AF_INET) return found[0] == expected->s6_addr32[3];
  return memcmp(found, expected, sizeof *expected) == 0;
}

/* The lookup falls back to listening sockets. */
static bool is_answer_for(const struct client_socket *client, const struct inet_diag_msg *answer) {
  return answer->id.idiag_sport == client->port && answer->id.idiag_dport == client->remote_port &&
         is_same_address(answer->idiag_family, answer->id.idiag_src, &client->address) &&
         is_same_address(answer->idiag_family, answer->id.idiag_dst, &client->remote_address);
}

static enum owner ask_netlink(int netlink, const struct client_socket *client, uid_t *uid) {
  static _Atomic bool has_answered; /* ENOENT is also the answer of a kernel without the module */
  struct {
    struct nlmsghdr header;
    struct inet_diag_req_v2 request;
  } question = {.header = {.nlmsg_len = sizeof question,
                           .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                           .nlmsg_flags = NLM_F_REQUEST},
                .request = {.sdiag_family = (uint8_t)client->family,
                            .sdiag_protocol = IPPROTO_TCP,
                            .idiag_states = ~0u,
                            .id = {.idiag_sport = client->port,
                                   .idiag_dport = client->remote_port,
                                   .idiag_if = LOOPBACK_INTERFACE,
                                   .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}}};
  copy_address(client->family, question.request.id.idiag_src, &client->address);
  copy_address(client->family, question.request.id.idiag_dst, &client->remote_address);
  const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  struct sockaddr_nl from;
  socklen_t from_size = sizeof from;
  union {
    struct nlmsghdr header;
    char bytes[ANSWER_MAX];
  } answer;
  if (!bind_port_id(netlink)) return OWNER_UNKNOWN;
  ssize_t sent = sendto(netlink, &question, sizeof question, 0, (const struct sockaddr *)&kernel,
                        sizeof kernel);
  if (sent != sizeof question) return OWNER_UNKNOWN;
  /* The answer is there when sendto returns. */
  ssize_t size =
      recvfrom(netlink, &answer, sizeof answer, MSG_DONTWAIT, (struct sockaddr *)&from, &from_size);
  if (size < (ssize_t)sizeof answer.header || from.nl_pid != 0) return OWNER_UNKNOWN;
  if (answer.header.nlmsg_type == NLMSG_ERROR &&
      size >= (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr))) {
    const struct nlmsgerr *error = NLMSG_DATA(&answer.header);
    return error->error == -ENOENT && atomic_load_explicit(&has_answered, memory_order_relaxed)
               ? OWNER_GONE
               : OWNER_UNKNOWN;
  }
  if (answer.header.nlmsg_type != SOCK_DIAG_BY_FAMILY) return OWNER_UNKNOWN;
  if (size < (ssize_t)NLMSG_LENGTH(sizeof(struct inet_diag_msg))) return OWNER_UNKNOWN;
  const struct inet_diag_msg *found = NLMSG_DATA(&answer.header);
  atomic_store_explicit(&has_answered, true, memory_order_relaxed);
  if (!is_answer_for(client, found)) return OWNER_GONE;
  return judge(found->idiag_state, found->idiag_inode, found->idiag_uid, uid);
}

static enum owner owner_by_netlink(const struct client_socket *client, uid_t *uid) {
  if (sandbox_is_tighter(0)) return OWNER_UNKNOWN; /* such a filter may kill for the socket */
  int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (netlink < 0) return OWNER_UNKNOWN;
  enum owner owner = ask_netlink(netlink, client, uid);
  close(netlink);
  return owner;
}

/* /proc/net/tcp, tcp6: "  sl: ADDRESS:PORT ADDRESS:PORT ST TX:RX TR:TM RETRANSMITS UID TIMEOUT
 * INODE ..." */
static void format_line_part(const struct client_socket *client, bool six, char *out, size_t size) {
  const uint32_t *address = client->address.s6_addr32,
                 *remote = client->remote_address.s6_addr32; /* as this processor's numbers */
  unsigned port = ntohs(client->port), remote_port = ntohs(client->remote_port);
  if (six)
    snprintf(out, size, " %08X%08X%08X%08X:%04X %08X%08X%08X%08X:%04X ", address[0], address[1],
             address[2], address[3], port, remote[0], remote[1], remote[2], remote[3], remote_port);
  else snprintf(out, size, " %08X:%04X %08X:%04X ", address[3], port, remote[3], remote_port);
}

static const char *skip_fields(const char *at, unsigned count) {
  while (count-- > 0) {
    at += strspn(at, " ");
    at += strcspn(at, " ");
  }
  return at;
}

static enum owner owner_in_file(const char *path, const char *wanted, uid_t *uid) {
  char text[READ_SIZE + 1];
  size_t size = 0;
  enum owner owner = OWNER_GONE;
  int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) return errno == EMFILE || errno == ENFILE ? OWNER_NO_DESCRIPTOR : OWNER_UNKNOWN;
  while (owner == OWNER_GONE) {
    ssize_t got = read(file, text + size, READ_SIZE - size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    size += (size_t)got;
    char *line = text, *end;
    for (; (end = memchr(line, '\n', size - (size_t)(line - text))); line = end + 1) {
      *end = 0;
      const char *rest = strstr(line, wanted);
      if (!rest) continue;
      rest += strlen(wanted);
      const char *uid_field = skip_fields(rest, 4), *inode_field = skip_fields(uid_field, 2);
      unsigned state = (unsigned)strtoul(rest, NULL, 16);
      owner = judge(state, (uint32_t)strtoul(inode_field, NULL, 10),
                    (uint32_t)strtoul(uid_field, NULL, 10), uid);
      if (owner == OWNER_FOUND) break;
    }
    size -= (size_t)(line - text);
    if (size == READ_SIZE) break; /* no such lines */
    memmove(text, line, size);
  }
  close(file);
  return owner;
}

static enum owner owner_by_proc(const struct client_socket *client, uid_t *uid) {
  char wanted[100];
  enum owner result = OWNER_UNKNOWN;
  for (int attempt = 0; attempt < 2;
       attempt++) { /* a line may be missed while others come and go */
    for (int six = client->family == AF_INET6; six < 2; six++) {
      format_line_part(client, six, wanted, sizeof wanted);
      enum owner owner = owner_in_file(
          six ? "/proc/thread-self/net/tcp6" : "/proc/thread-self/net/tcp", wanted, uid);
      if (owner == OWNER_FOUND || owner == OWNER_NO_DESCRIPTOR) return owner;
      if (owner == OWNER_GONE) result = owner;
    }
  }
  return result;
}

/* ---- */

static bool refuse(char text[CLIENT_ACCESS_TEXT_MAX], uid_t uid, uid_t owner) {
  snprintf(text, CLIENT_ACCESS_TEXT_MAX,
           "user %u may not connect: this process belongs to user %u; "
           "PPROFAGENT_ALLOW_UIDS names further users",
           (unsigned)uid, (unsigned)owner);
  return false;
}

static bool refuse_unmapped(char text[CLIENT_ACCESS_TEXT_MAX], uid_t uid) {
  snprintf(text, CLIENT_ACCESS_TEXT_MAX,
           "user %u may not connect: the kernel says so of every user "
           "that has no number in this user namespace; PPROFAGENT_ADDR=unix:PATH does without",
           (unsigned)uid);
  return false;
}

/* One of its users, who may not look all the same. */
static bool refuse_own(char text[CLIENT_ACCESS_TEXT_MAX], uid_t uid) {
  struct process_users users = process_owner_users();
  if (process_owner_is(uid))
    snprintf(text, CLIENT_ACCESS_TEXT_MAX,
             "user %u may not connect: this process is not dumpable (prctl(2)), so only root may; "
             "PPROFAGENT_ALLOW_UIDS names further users",
             (unsigned)uid);
  else
    snprintf(text, CLIENT_ACCESS_TEXT_MAX,
             "user %u may not connect: this process is not only that user's (real %u, effective "
             "%u, saved %u); PPROFAGENT_ALLOW_UIDS names further users",
             (unsigned)uid, (unsigned)users.real, (unsigned)users.effective, (unsigned)users.saved);
  return false;
}

bool client_access_judge(const struct client *client, char text[CLIENT_ACCESS_TEXT_MAX]) {
  struct process_users users = process_owner_users();
  uid_t uid = client->uid;
  if (may_look(uid)) {
    if (client->is_unix || is_somebody(uid)) return true;
    return refuse_unmapped(text, uid);
  }
  bool is_one_of_its = uid == users.real || uid == users.effective || uid == users.saved;
  return is_one_of_its ? refuse_own(text, uid) : refuse(text, uid, users.real);
}

void client_access_audience(struct process_audience *out) {
  struct process_users users = process_owner_users();
  *out = (struct process_audience){.owner = users.real, .unmapped = unmapped_user()};
  if (process_owner_may_look(users.real)) out->uids[out->count++] = users.real;
  for (uint32_t i = 0; i < config.allowed_uid_count; i++)
    out->uids[out->count++] = config.allowed_uids[i];
}

bool client_access_judge_for(const struct process_audience *audience, const struct client *client,
                             char text[CLIENT_ACCESS_TEXT_MAX]) {
  uid_t uid = client->uid;
  bool listed = uid == 0;
  for (uint32_t i = 0; i < audience->count && i <= CONFIG_UIDS_MAX; i++)
    listed = listed || audience->uids[i] == uid;
  if (!listed && uid == audience->owner) {
    snprintf(text, CLIENT_ACCESS_TEXT_MAX,
             "user %u may not connect: that process is not dumpable (prctl(2)), or not only that "
             "user's; PPROFAGENT_ALLOW_UIDS names further users",
             (unsigned)uid);
    return false;
  }
  if (!listed) return refuse(text, uid, audience->owner);
  bool known = client->is_unix || uid != audience->unmapped;
  return known || refuse_unmapped(text, uid);
}

static enum client_found find_unix(int descriptor, struct client *out,
                                   char text[CLIENT_ACCESS_TEXT_MAX]) {
  struct ucred peer;
  socklen_t size = sizeof peer;
  if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    snprintf(text, CLIENT_ACCESS_TEXT_MAX, "the kernel does not tell who connects");
    return CLIENT_UNKNOWN;
  }
  *out = (struct client){.uid = peer.uid, .is_unix = true};
  return CLIENT_FOUND;
}

enum client_found client_access_find(int descriptor, struct client *out,
                                     char text[CLIENT_ACCESS_TEXT_MAX]) {
  int domain = 0;
  socklen_t size = sizeof domain;
  struct client_socket socket;
  *out = (struct client){.uid = (uid_t)-1};
  text[0] = 0;
  getsockopt(descriptor, SOL_SOCKET, SO_DOMAIN, &domain, &size);
  if (domain == AF_UNIX) return find_unix(descriptor, out, text);
  enum owner owner = OWNER_GONE;
  if (find_client_socket(descriptor, &socket)) {
    owner = owner_by_netlink(&socket, &out->uid);
    if (owner == OWNER_UNKNOWN) owner = owner_by_proc(&socket, &out->uid);
  }
  switch (owner) {
    case OWNER_FOUND: return CLIENT_FOUND;
    case OWNER_GONE:
      snprintf(text, CLIENT_ACCESS_TEXT_MAX,
               "the kernel knows no owner of the other end of this connection");
      return CLIENT_UNKNOWN;
    case OWNER_NO_DESCRIPTOR:
      snprintf(text, CLIENT_ACCESS_TEXT_MAX,
               "the agent is out of descriptors, so it cannot ask who connects");
      return CLIENT_NO_DESCRIPTOR;
    default:
      snprintf(text, CLIENT_ACCESS_TEXT_MAX,
               "the kernel does not tell who connects here (no sock_diag, no /proc/net/tcp); "
               "PPROFAGENT_ADDR=unix:PATH does without");
      return CLIENT_UNKNOWN;
  }
}

bool client_access_check(int descriptor, char text[CLIENT_ACCESS_TEXT_MAX]) {
  struct client client;
  return client_access_find(descriptor, &client, text) == CLIENT_FOUND &&
         client_access_judge(&client, text);
}
