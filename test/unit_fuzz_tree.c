/* links: test/agent_memory_libc.c */
/* fuzz: bytes */
/* Messages of the processes that share a port, as liars send them: to a holder, from some who may
 * join and some who may not; and to a member, from its holder. Who is a stranger joins nothing and
 * vouches for nobody; no descriptor is left. */
#include <netinet/in.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shim/threads/thread_registry.h"
#include "shim/base/thread_state.h"
#include "agent/runtime/agent_thread.h"
#include "agent/http/client_access.h"
#include "agent/http/connection_gate.h"
#include "fuzz.h"
#include "agent/tree/process_tree.h"
#include "agent/tree/tree_members.h"
#include "agent/tree/tree_message.h"

enum { PEERS = 6 };

static bool never(void) { return false; }

_Thread_local struct thread_state thread_state;
bool thread_registry_has_tid(int32_t tid) {
  return (void)tid, false;
} /* shim/threads/thread_registry.h */
_Atomic bool dumpable_refused; /* shim/base/dumpable.h */
static bool is_trusted;
bool client_access_uid(uid_t uid) { return (void)uid, is_trusted; }
bool client_access_shares(uid_t uid) { return (void)uid, is_trusted; }
void client_access_audience(struct process_audience *out) { *out = (struct process_audience){0}; }
bool client_access_judge_for(const struct process_audience *audience, const struct client *client,
                             char text[CLIENT_ACCESS_TEXT_MAX]) {
  *text = 0;
  return audience->owner == client->uid;
}
uint64_t process_start_ticks(void) { return 4711; } /* agent/runtime/process_info.h */
void process_entry_read(struct process_entry *out) {
  *out = (struct process_entry){.pid = getpid(), .answered = true, .heap_bytes = 77};
}
void connection_gate_take(const struct inbox_connection *given) {
  if (given->prefix_size > INBOX_PREFIX_MAX || (given->authenticated && !is_trusted)) abort();
  close(given->descriptor);
}

/* ---- messages ---- */

static void send_message(struct fuzz_input *input, int socket_) {
  struct tree_message message = {
      .protocol = TREE_PROTOCOL, .size = sizeof message, .hello = {.pid = getpid()}};
  unsigned how = fuzz_byte(input), descriptors = how >> 5 & 3;
  message.kind = 1 + (how & 7);
  message.round = fuzz_byte(input);
  size_t size, at = offsetof(struct tree_message, entry), whole = sizeof message;
  if (how & 8) at = 0;
  const uint8_t *bytes = fuzz_piece(input, sizeof message - at, &size);
  memcpy((char *)&message + at, bytes, size);
  if (how & 16) whole = 1 + (size_t)fuzz_byte(input) * 4 % sizeof message;
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(3 * sizeof(int))];
  } control;
  const int given[3] = {0, 0, 0};
  struct iovec part = {&message, whole};
  struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
  if (descriptors) {
    memset(&control, 0, sizeof control);
    head.msg_control = &control;
    head.msg_controllen = CMSG_SPACE(descriptors * sizeof(int));
    control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
                                      .cmsg_type = SCM_RIGHTS,
                                      .cmsg_len = CMSG_LEN(descriptors * sizeof(int))};
    memcpy(CMSG_DATA(&control.header), given, descriptors * sizeof(int));
  }
  if (sendmsg(socket_, &head, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 || errno != EPERM) return;
  head.msg_controllen = 0; /* no descriptor is taken there */
  sendmsg(socket_, &head, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* What it is told: a stranger no key and no welcome. */
static void hear(int socket_) {
  static const struct tree_key none;
  struct tree_message answer;
  while (tree_message_receive(socket_, &answer) > 0) {
    if (is_trusted) continue;
    if (answer.kind == TREE_WELCOME || answer.kind == TREE_CONNECTION) abort();
    if (answer.kind == TREE_HELLO && memcmp(&answer.hello.key, &none, sizeof none) != 0) abort();
    if (answer.kind == TREE_ENTRY && answer.entry.heap_bytes >= 0) abort();
  }
}

static socklen_t name_of(const struct listen_address *address, struct sockaddr_un *name) {
  char text[64];
  listen_address_format(address, text, sizeof text);
  *name = (struct sockaddr_un){.sun_family = AF_UNIX};
  int length = snprintf(name->sun_path + 1, sizeof name->sun_path - 1, "pprofagent/%s", text);
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

static int seqpacket(void) { return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0); }

/* -1: too many wait to be accepted. */
static int join(const struct sockaddr_un *name, socklen_t size) {
  int peer = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (connect(peer, (const struct sockaddr *)name, size) == 0) return peer;
  if (errno != EAGAIN) abort();
  close(peer);
  return -1;
}

/* ---- copies of descriptors, as a program's forked child has them ---- */

enum { COPIES_MAX = 512, COPIED = 40 };
static int copies[COPIES_MAX], copy_count;
static bool keeps_copies;

static void copy_descriptors(void) {
  for (int i = 3; keeps_copies && i < COPIED && copy_count < COPIES_MAX; i++) {
    int copy = fcntl(i, F_DUPFD_CLOEXEC, 100);
    if (copy >= 0) copies[copy_count++] = copy;
  }
}

static void close_copies(void) {
  while (copy_count) close(copies[--copy_count]);
}

/* ---- a holder ---- */

static void talk_to_holder(struct fuzz_input *input) {
  struct listen_address address;
  struct sockaddr_un name;
  char reason[200], text[CLIENT_ACCESS_TEXT_MAX];
  int listener, peers[PEERS];
  const struct client client = {.uid = 0};
  listen_address_parse("127.0.0.1:0", &address, reason, sizeof reason);
  if (process_tree_enter(&address, &listener, never, reason, sizeof reason) != TREE_HOLDER) abort();
  socklen_t size = name_of(&address, &name);
  for (int i = 0; i < PEERS; i++) peers[i] = -1;
  while (fuzz_left(input)) {
    unsigned what = fuzz_byte(input);
    int *peer = &peers[what % PEERS];
    if (*peer < 0) {
      *peer = join(&name, size);
    } else if (what & 128) {
      close(*peer);
      *peer = -1;
    } else {
      send_message(input, *peer);
    }
    copy_descriptors();
    for (int i = what & 64 ? 0 : 3; i > 0; i--) process_tree_handle();
    copy_descriptors();
    /* root's gives way to nobody, and others to root's */
    if (process_tree_role() != TREE_HOLDER) abort();
    if (what & 32) process_tree_as_others.would_answer(getpid(), &client, text);
    for (int i = 0; i < PEERS; i++)
      if (peers[i] >= 0) hear(peers[i]);
    if (!is_trusted && process_tree_size() != 1) abort();
  }
  for (int i = 0; i < PEERS; i++)
    if (peers[i] >= 0) close(peers[i]);
  for (int i = 0; i < 3; i++) process_tree_handle();
  process_tree_refusals(text);
  process_tree_leave();
  close(listener);
  close_copies();
}

/* ---- a member ---- */

static int false_listener = -1, welcomed[2];
static struct listen_address false_address;

/* Answers whoever comes by a welcome, and leaves the rest to the input. */
static void *false_holder(void *unused) {
  const int started = -1; /* a sanitizer opens files in a thread that begins */
  if (write(welcomed[1], &started, sizeof started) != sizeof started) abort();
  for (;;) {
    struct tree_message hello, welcome = {.hello = {.pid = 1}};
    struct pollfd wait = {.fd = false_listener, .events = POLLIN};
    poll(&wait, 1, -1); /* in accept it would have a descriptor's number already */
    int peer = accept4(false_listener, NULL, NULL, SOCK_CLOEXEC);
    if (peer < 0) abort();
    while (tree_message_receive(peer, &hello) == 0) usleep(10);
    tree_message_send(peer, TREE_WELCOME, &welcome, -1);
    if (write(welcomed[1], &peer, sizeof peer) != sizeof peer) abort();
  }
  return unused;
}

static void begin_false_holder(void) {
  struct sockaddr_un name;
  pthread_t thread;
  char reason[200];
  listen_address_parse("127.0.0.1:1", &false_address, reason, sizeof reason);
  false_address.port = 1 + (unsigned)getpid() % 1000; /* of several that run at a time */
  ((struct sockaddr_in *)&false_address.socket)->sin_port = htons((uint16_t)false_address.port);
  socklen_t size = name_of(&false_address, &name);
  false_listener = seqpacket();
  if (bind(false_listener, (struct sockaddr *)&name, size) != 0) abort();
  if (listen(false_listener, 8) != 0 || pipe(welcomed) != 0) abort();
  if (pthread_create(&thread, NULL, false_holder, NULL) != 0) abort();
  int started;
  if (read(welcomed[0], &started, sizeof started) != sizeof started) abort();
}

static void talk_to_member(struct fuzz_input *input) {
  struct listen_address address = false_address;
  char reason[200];
  int listener, holder;
  is_trusted = true; /* else it would not have joined */
  if (process_tree_enter(&address, &listener, never, reason, sizeof reason) != TREE_MEMBER) abort();
  if (read(welcomed[0], &holder, sizeof holder) != sizeof holder) abort();
  bool goes_on = true;
  while (goes_on && fuzz_left(input)) {
    send_message(input, holder);
    is_trusted = !(fuzz_byte(input) & 1);
    goes_on = process_tree_handle();
    hear(holder);
  }
  process_tree_leave();
  close(holder);
}

static void fuzz_one(const uint8_t *bytes, size_t size) {
  struct fuzz_input input = {bytes, bytes + size};
  if (false_listener < 0) begin_false_holder();
  unsigned how = fuzz_byte(&input);
  is_trusted = how & 1;
  keeps_copies = how & 4;
  int descriptors = fuzz_descriptors();
  if (how & 2) talk_to_member(&input);
  else talk_to_holder(&input);
  connection_inbox_close();
  fuzz_check_descriptors(descriptors);
}
