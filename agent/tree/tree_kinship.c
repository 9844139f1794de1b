#include "tree_kinship.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/runtime/process_info.h"
#include "agent/http/process_owner.h"
#include "tree_message.h"

enum { BACKLOG = 1024 };

/* Admin thread only. */
static struct {
  int descriptor;
  uint64_t number; /* 0: none is kept */
  pid_t pid;
  uid_t uid;
} kept;

static socklen_t name_of(uint64_t number, struct sockaddr_un *out) {
  *out = (struct sockaddr_un){.sun_family = AF_UNIX};
  /* the ticks are since the machine's start; an exec does not change them */
  int length = snprintf(out->sun_path + 1, sizeof out->sun_path - 1,
                        "pprofagent/kin/%d/%" PRIu64 "/%016" PRIx64, (int)getpid(),
                        process_start_ticks(), number);
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

static int seqpacket(void) {
  int made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (made >= 0) tree_message_refuse_descriptors(made, true);
  return made;
}

int kinship_make(uint64_t *number) {
  struct sockaddr_un name;
  uint64_t drawn;
  if (getrandom(&drawn, sizeof drawn, GRND_NONBLOCK) != sizeof drawn || !drawn) return -1;
  socklen_t size = name_of(drawn, &name);
  int token = process_start_ticks() ? seqpacket() : -1;
  if (token < 0) return -1;
  if (bind(token, (const struct sockaddr *)&name, size) == 0 && listen(token, BACKLOG) == 0) {
    *number = drawn;
    return token;
  }
  close(token);
  return -1;
}

bool kinship_proves(uint64_t number, bool *crowded) {
  struct sockaddr_un name;
  struct ucred maker;
  socklen_t name_size = name_of(number, &name), size = sizeof maker;
  int probe = number && process_start_ticks() ? seqpacket() : -1;
  bool connected = probe >= 0 && connect(probe, (const struct sockaddr *)&name, name_size) == 0;
  *crowded = probe >= 0 && !connected && errno == EAGAIN;
  bool proven = connected && getsockopt(probe, SOL_SOCKET, SO_PEERCRED, &maker, &size) == 0 &&
                maker.pid == getpid() && maker.uid == process_owner_users().effective;
  if (probe >= 0) close(probe);
  return proven;
}

void kinship_forget(void) {
  if (kept.number) close(kept.descriptor);
  kept.number = 0;
}

void kinship_keep(int descriptor, uint64_t number, pid_t pid, uid_t uid) {
  kinship_forget();
  kept.descriptor = descriptor;
  kept.number = number;
  kept.pid = pid;
  kept.uid = uid;
}

/* Anybody may have connected meanwhile: the maker must find room. */
static void make_room(void) {
  for (int i = 0; i < 2 * BACKLOG; i++) {
    int connected = accept4(kept.descriptor, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (connected < 0) return;
    close(connected);
  }
}

uint64_t kinship_kept_of(pid_t pid, uid_t uid) {
  if (!kept.number || kept.pid != pid || kept.uid != uid) return 0;
  make_room();
  return kept.number;
}
