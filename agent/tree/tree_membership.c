#include "tree_membership.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/http/client_access.h"
#include "agent/http/connection_gate.h"
#include "agent/http/process_owner.h"
#include "agent/runtime/log.h"
#include "spare_listener.h"
#include "tree_keys.h"
#include "tree_kinship.h"
#include "tree_message.h"

enum {
  ANSWER_MILLISECONDS = 300, /* in all: one that has the name may close late again and again */
  PIECE_MILLISECONDS = 5
};

/* Admin thread only. */
static int connection; /* to the holder */
static uid_t holder_uid; /* when it last said something */
static pid_t asked_pid; /* whom it has asked to give way, since it was outside; 0: nobody */
static bool (*gives_up)(void); /* this and the next: while it enters */
static int answer_left; /* of ANSWER_MILLISECONDS */

void tree_membership_begin(bool (*give_up)(void)) {
  gives_up = give_up;
  answer_left = ANSWER_MILLISECONDS;
}

void tree_membership_is_inside(void) { asked_pid = 0; }

static int failed(char *reason, size_t reason_size, const char *format, int pid, unsigned uid) {
  snprintf(reason, reason_size, format, pid, uid);
  return -1;
}

/* What the holder answers to this process's introduction. *ended: it was about to end. */
static int hear_welcome(int socket, struct tree_message *message, int *descriptor, bool *ended) {
  struct pollfd wait = {.fd = socket, .events = POLLIN};
  int ready = 0;
  while (ready == 0 && answer_left > 0 && !gives_up()) {
    ready = poll(&wait, 1, PIECE_MILLISECONDS);
    if (ready < 0 && errno == EINTR) ready = 0; /* setuid in another thread, whatever is blocked */
    if (ready == 0) answer_left -= PIECE_MILLISECONDS;
  }
  int received = ready > 0 ? tree_message_receive_from(socket, message, &holder_uid,
                                                       client_access_shares, descriptor)
                           : 0;
  *ended = *ended || received < 0;
  return received;
}

/* Known to be kin, but of a user who has no rights to this process: it shall be led by this one. */
static void ask_to_give_way(int socket, const struct ucred *holder) {
  struct tree_message message = {0};
  if (holder->pid != asked_pid)
    log_event("process %d of user %u is to give the port to this one", holder->pid, holder->uid);
  asked_pid = holder->pid;
  tree_message_send(socket, TREE_GIVE_WAY, &message, -1);
}

/* Whether a holder of another user would give it to this process if asked. *again: it cannot be
 * told now. */
static bool may_have_port(bool is_kin, uint64_t token, bool *again) {
  if (process_owner_users().effective != 0) return false;
  return is_kin || kinship_proves(token, again);
}

/* Introduces this process to the holder. 0, or -1 with a reason; *again: the holder was about to
 * end, or has been asked to. */
static int introduce(int socket, const struct listen_address *address, const struct ucred *holder,
                     bool *again, char *reason, size_t reason_size) {
  bool trusted = client_access_shares(holder->uid);
  struct tree_message message = {
      .hello = {.pid = getpid(), .token = kinship_kept_of(holder->pid, holder->uid)}};
  int descriptor = -1;
  holder_uid = holder->uid;
  if (trusted) tree_message_refuse_descriptors(socket, false);
  if (trusted && tree_keys_may_show(holder->uid)) message.hello.key = tree_keys()[0];
  bool sent = tree_message_send(socket, TREE_HELLO, &message, -1);
  *again = !sent && (errno == EPIPE || errno == ECONNRESET);
  if (!sent || hear_welcome(socket, &message, &descriptor, again) <= 0)
    return failed(reason, reason_size, "process %d of user %u has its name and does not answer",
                  holder->pid, holder->uid);
  if (message.kind != TREE_WELCOME) {
    if (descriptor >= 0) close(descriptor);
    return failed(reason, reason_size,
                  "process %d of user %u has its name and does not let this one share it",
                  holder->pid, holder->uid);
  }
  bool known = tree_keys_know(&message.hello.key);
  if (!trusted && !may_have_port(known, message.hello.token, again))
    return failed(reason, reason_size, "process %d, which has its name, is another user's (%u)",
                  holder->pid, holder->uid);
  if (!trusted) {
    ask_to_give_way(socket, holder);
    *again = true;
    return failed(reason, reason_size,
                  "process %d of user %u is to give it to this one and has "
                  "not yet done so",
                  holder->pid, holder->uid);
  }
  bool is_token = descriptor >= 0 && message.hello.token;
  if (is_token) kinship_keep(descriptor, message.hello.token, holder->pid, holder->uid);
  spare_listener_keep(is_token ? -1 : descriptor, address);
  if (known || holder->uid == 0) tree_keys_learn(&message.hello.key);
  return 0;
}

/* For `pprofagent ps`, which finds in /proc/net/unix what this process shares. Without it all else
 * works. */
static void name_membership(int socket, const struct listen_address *address) {
  char text[160];
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  listen_address_format(address, text, sizeof text);
  int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "pprofagent/%s/%d", text,
                        (int)getpid());
  if (length > 0 && (size_t)length < sizeof name.sun_path - 1)
    bind(socket, (const struct sockaddr *)&name,
         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length));
}

bool tree_membership_join(int socket, const struct listen_address *address, bool *again,
                          char *reason, size_t reason_size) {
  struct ucred holder;
  socklen_t size = sizeof holder;
  const int on = 1;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &holder, &size) != 0)
    holder = (struct ucred){.uid = (uid_t)-1};
  name_membership(socket, address); /* before the next, with which the kernel would choose a name */
  *again = false;
  if (setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
      introduce(socket, address, &holder, again, reason, reason_size) != 0)
    return false;
  connection = socket;
  log_event("sharing the port that process %d holds", (int)holder.pid);
  return true;
}

int tree_membership_event(void) { return connection; }

void tree_membership_end(void) { close(connection); }

static void take_connection(struct tree_message *message, int descriptor) {
  bool is_vouched_for = message->connection.authenticated && client_access_uid(holder_uid);
  struct inbox_connection given = {.descriptor = descriptor,
                                   .authenticated = is_vouched_for,
                                   .prefix_size = message->connection.prefix_size};
  if (descriptor < 0) return;
  if (given.prefix_size > sizeof given.prefix) given.prefix_size = 0;
  memcpy(given.prefix, message->connection.prefix, given.prefix_size);
  /* First: if this process ends or becomes another program now, its holder must not answer a
   * request of which a worker here has read a part. */
  tree_message_send(connection, TREE_TAKEN, message, -1);
  connection_gate_take(&given);
}

/* No more than /proc tells everybody where the holder may not see the pages. */
static void answer_entry(struct tree_message *message) {
  process_entry_read(&message->entry);
  client_access_audience(&message->audience);
  if (!client_access_uid(holder_uid)) message->entry.heap_bytes = -1;
  tree_message_send(connection, TREE_ENTRY, message, -1);
}

bool tree_membership_handle(void) {
  for (;;) {
    struct tree_message message;
    int descriptor, received = tree_message_receive_from(connection, &message, &holder_uid,
                                                         client_access_shares, &descriptor);
    if (received == 0) return true;
    if (received < 0 || !client_access_shares(holder_uid)) {
      if (descriptor >= 0) close(descriptor);
      return false;
    }
    if (message.kind == TREE_CONNECTION) {
      take_connection(&message, descriptor);
    } else {
      if (descriptor >= 0) close(descriptor);
      if (message.kind != TREE_ENTRY_WANTED) continue;
      answer_entry(&message);
    }
  }
}
