#include "tree_kinship.h"

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/runtime/allowed_calls.h"
#include "agent/runtime/process_info.h"
#include "agent/http/process_owner.h"

struct birth {
  char mark[16];
  uint64_t ticks; /* since the machine's start; an exec does not change it */
};

static bool has_token; /* this and the next: admin thread only */
static int token;

static bool read_birth(struct birth *out) {
  *out = (struct birth){.mark = "pprofagent kin", .ticks = process_start_ticks()};
  return out->ticks != 0;
}

/* One end of every connection has a name; the ends of a pair have none. */
static bool is_of_a_pair(int descriptor) {
  struct sockaddr_un own, other;
  socklen_t own_size = sizeof own, other_size = sizeof other;
  return getsockname(descriptor, (struct sockaddr *)&own, &own_size) == 0 &&
         getpeername(descriptor, (struct sockaddr *)&other, &other_size) == 0 &&
         own.sun_family == AF_UNIX && own_size == sizeof own.sun_family &&
         other_size == sizeof other.sun_family;
}

/* Either end of a pair tells who made it. */
static bool was_made_by(int descriptor, pid_t pid, uid_t uid) {
  struct ucred maker;
  int type = 0;
  socklen_t size = sizeof maker, type_size = sizeof type;
  return pid > 0 && getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &type_size) == 0 &&
         type == SOCK_SEQPACKET && is_of_a_pair(descriptor) &&
         getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &maker, &size) == 0 && maker.pid == pid &&
         maker.uid == uid;
}

int kinship_make(void) {
  struct birth birth;
  int pair[2];
  if (allowed_calls_lack(CALLS_TOKENS) || !read_birth(&birth)) return -1;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) return -1;
  bool sent = send(pair[0], &birth, sizeof birth, MSG_NOSIGNAL) == sizeof birth;
  close(pair[0]); /* so nobody can send anything else to the other */
  if (sent) return pair[1];
  close(pair[1]);
  return -1;
}

bool kinship_proves(int descriptor) {
  struct birth own, found;
  if (descriptor < 0 || !was_made_by(descriptor, getpid(), process_owner_users().effective))
    return false;
  const int from_the_start = -1; /* SO_PEEK_OFF is whoever's had it before */
  setsockopt(descriptor, SOL_SOCKET, SO_PEEK_OFF, &from_the_start, sizeof from_the_start);
  /* Not taken out: it may be shown again. MSG_TRUNC: no longer message. */
  const int how = MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC;
  return read_birth(&own) && recv(descriptor, &found, sizeof found, how) == sizeof found &&
         memcmp(&own, &found, sizeof own) == 0;
}

void kinship_forget(void) {
  if (has_token) close(token);
  has_token = false;
}

bool kinship_keep(int descriptor, pid_t pid, uid_t uid) {
  if (descriptor < 0 || !was_made_by(descriptor, pid, uid)) return false;
  kinship_forget();
  token = descriptor;
  has_token = true;
  return true;
}

int kinship_kept_of(pid_t pid, uid_t uid) {
  return has_token && was_made_by(token, pid, uid) ? token : -1;
}
