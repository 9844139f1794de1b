#include "tree_kinship.h"

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
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

/* Either end of a pair tells who made it. */
static bool was_made_by(int descriptor, pid_t pid, uid_t uid) {
  struct ucred maker;
  int type = 0;
  socklen_t size = sizeof maker, type_size = sizeof type;
  return pid > 0 && getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &type_size) == 0 &&
         type == SOCK_SEQPACKET && /* no unix address's listening socket */
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
  /* Not taken out: it may be shown again. */
  return read_birth(&own) &&
         recv(descriptor, &found, sizeof found, MSG_PEEK | MSG_DONTWAIT) == sizeof found &&
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
