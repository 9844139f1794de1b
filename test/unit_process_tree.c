/* links: test/agent_memory_libc.c */
/* The processes that share a port hear bytes from outside: a holder that strangers and liars talk
 * to, and a member whose holder talks nonsense. Whatever comes, real members are served, nothing is
 * handed to a liar, and no descriptor is left behind. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/runtime/agent_thread.h"
#include "agent/http/client_access.h"
#include "agent/http/connection_gate.h"
#include "agent/tree/process_tree.h"
#include "agent/tree/tree_kinship.h"
#include "agent/tree/tree_members.h"
#include "agent/tree/tree_message.h"
#include "shim/threads/thread_registry.h"
#include "shim/base/thread_state.h"

_Thread_local struct thread_state thread_state;
bool thread_registry_has_tid(int32_t tid) {
  return (void)tid, false;
} /* shim/threads/thread_registry.h */
static int failures;
static _Atomic bool own_user_is_trusted = true, stop;
static uint64_t random_state = 88172645463325252u;

_Atomic bool dumpable_refused; /* shim/base/dumpable.h */
bool client_access_uid(uid_t uid) { return uid == getuid() && own_user_is_trusted; }
bool client_access_shares(uid_t uid) { return client_access_uid(uid); }
/* A member answers FRIEND, and nobody else. */
enum { FRIEND = 4711, FOE };
void client_access_audience(struct process_audience *out) {
  *out = (struct process_audience){.count = 1, .uids = {FRIEND}};
}
bool client_access_judge_for(const struct process_audience *audience, const struct client *client,
                             char text[CLIENT_ACCESS_TEXT_MAX]) {
  *text = 0;
  return audience->count == 1 && audience->uids[0] == client->uid;
}
void connection_gate_take(const struct inbox_connection *given) {
  if (!connection_inbox_put(given)) close(given->descriptor);
}
uint64_t process_start_ticks(void) { return 4711; } /* agent/runtime/process_info.h */
void process_entry_read(struct process_entry *out) {
  *out = (struct process_entry){.pid = getpid(), .answered = true, .threads = 7};
}

#define CHECK(condition)                                 \
  do {                                                   \
    if (!(condition)) {                                  \
      printf("line %d: not %s\n", __LINE__, #condition); \
      failures++;                                        \
    }                                                    \
  } while (0)

static unsigned random_below(unsigned limit) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (unsigned)(random_state >> 33) % limit;
}

static bool never(void) { return false; }

static int descriptors(void) {
  int count = 0;
  DIR *directory = opendir("/proc/self/fd");
  while (readdir(directory)) count++;
  closedir(directory);
  return count;
}

static void *holder_main(void *unused) {
  while (!stop) {
    struct pollfd wait = {.fd = process_tree_event(), .events = POLLIN};
    if (poll(&wait, 1, 10) > 0) process_tree_handle();
  }
  return unused;
}

static struct sockaddr_un name;
static socklen_t name_size;

static int connect_to_holder(void) {
  int socket_ = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  while (connect(socket_, (struct sockaddr *)&name, name_size) != 0) usleep(1000);
  return socket_;
}

/* Any bytes, with any descriptors. */
static void send_nonsense(int socket_) {
  struct tree_message message;
  memset(&message, 0, sizeof message);
  if (random_below(2)) {
    message = (struct tree_message){.protocol = TREE_PROTOCOL,
                                    .size = sizeof message,
                                    .kind = random_below(10),
                                    .round = random_below(3)};
    message.hello.pid = random_below(2) ? getpid() : 1;
    for (size_t i = random_below(sizeof message.entry); i-- > 16;)
      ((char *)&message.entry)[i] = (char)random_below(256);
  } else {
    for (size_t i = 0; i < sizeof message; i++) ((char *)&message)[i] = (char)random_below(256);
  }
  int given[3] = {0, 1, 2};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof given)];
  } control;
  size_t count = random_below(4);
  struct iovec bytes = {&message,
                        random_below(3) ? sizeof message : random_below(sizeof message) + 1};
  struct msghdr head = {.msg_iov = &bytes, .msg_iovlen = 1};
  if (count) {
    memset(&control, 0, sizeof control);
    head.msg_control = &control;
    head.msg_controllen = CMSG_SPACE(count * sizeof(int));
    control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
                                      .cmsg_type = SCM_RIGHTS,
                                      .cmsg_len = CMSG_LEN(count * sizeof(int))};
    memcpy(CMSG_DATA(&control.header), given, count * sizeof(int));
  }
  if (sendmsg(socket_, &head, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 || errno != EPERM) return;
  head.msg_controllen = 0; /* no descriptor is taken there */
  sendmsg(socket_, &head, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* A member in a process of its own: joins, answers, says what it was handed. Ends when its holder
 * does. */
static void be_member(struct listen_address *address, int report) {
  char reason[200];
  int listener;
  enum tree_role role = process_tree_enter(address, &listener, never, reason, sizeof reason);
  char text[64] = "no member";
  if (role == TREE_MEMBER) strcpy(text, "joined");
  if (write(report, text, strlen(text)) < 0) _exit(1);
  while (role == TREE_MEMBER) {
    struct pollfd wait = {.fd = process_tree_event(), .events = POLLIN};
    struct inbox_connection given;
    if (poll(&wait, 1, 1000) > 0 && !process_tree_handle()) break;
    if (!connection_inbox_take(&given)) continue;
    size_t size = read(given.descriptor, text, sizeof text) > 0 ? 4 : 0;
    if (write(report, given.prefix, given.prefix_size) < 0 || write(report, text, size) < 0)
      _exit(1);
    close(given.descriptor);
  }
  _exit(0);
}

static bool reads(int descriptor, const char *expected) {
  char text[64] = "";
  size_t got = 0;
  struct pollfd wait = {.fd = descriptor, .events = POLLIN};
  while (got < strlen(expected) && poll(&wait, 1, 10000) > 0) {
    ssize_t more = read(descriptor, text + got, strlen(expected) - got);
    if (more <= 0) break;
    got += (size_t)more;
  }
  if (strcmp(text, expected) != 0) printf("got \"%s\", not \"%s\"\n", text, expected);
  return strcmp(text, expected) == 0;
}

static void check_holder(struct listen_address *address, const struct listen_address *parsed) {
  int report[2], trusted = 0;
  pthread_t thread;
  pid_t member;
  CHECK(pipe(report) == 0);
  int before = descriptors();
  pthread_create(&thread, NULL, holder_main, NULL);
  if ((member = fork()) == 0) {
    struct listen_address own = *parsed;
    tree_members_close();
    be_member(&own, report[1]);
  }
  CHECK(reads(report[0], "joined"));
  own_user_is_trusted = false; /* from here on all are strangers, who know no key */
  for (int i = 0; i < 3000; i++) {
    int socket_ = connect_to_holder();
    for (unsigned n = random_below(4); n > 0; n--) send_nonsense(socket_);
    if (random_below(50) == 0) {
      struct tree_message answer;
      struct pollfd wait = {.fd = socket_, .events = POLLIN};
      if (poll(&wait, 1, 20) > 0 && tree_message_receive(socket_, &answer) > 0)
        trusted += answer.kind == TREE_WELCOME;
    }
    close(socket_);
  }
  CHECK(trusted == 0);
  char last[PROCESS_REFUSAL_MAX];
  CHECK(process_tree_refusals(last) > 100 && strstr(last, "may not share the port"));
  CHECK(process_tree_size() == 2);
  int pair[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  const struct client friend = {.uid = FRIEND}, foe = {.uid = FOE};
  CHECK(process_tree_as_others.hand_over(getpid() + 100000, pair[0], &friend, "GET ", 4, never) ==
        TREE_NO_SUCH_PROCESS);
  CHECK(process_tree_as_others.hand_over(member, pair[0], &foe, "GET ", 4, never) == TREE_REFUSES);
  CHECK(process_tree_as_others.hand_over(member, pair[0], &friend, "GET ", 4, never) ==
        TREE_HANDED_OVER);
  close(pair[0]);
  CHECK(write(pair[1], "/pid", 4) == 4);
  CHECK(reads(report[0], "GET /pid"));
  close(pair[1]);
  size_t count = 0;
  struct process_entry *entries = process_tree_list(&count);
  CHECK(entries && count == 2);
  for (size_t i = 0; i < count; i++) CHECK(entries[i].answered && entries[i].threads == 7);
  free(entries);
  kill(member, SIGKILL);
  waitpid(member, NULL, 0);
  for (int i = 0; i < 1000 && process_tree_size() != 1; i++) usleep(10000);
  CHECK(process_tree_size() == 1);
  stop = true;
  pthread_join(thread, NULL);
  for (int i = 0; i < 200; i++) process_tree_handle(); /* the last of the strangers */
  int after = descriptors();
  CHECK(after <= before + 20);
  process_tree_leave();
  close(report[0]);
  close(report[1]);
  (void)address;
}

/* The holder is a liar. */
static void check_member(const struct listen_address *parsed) {
  int false_holder = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), welcomed = 0;
  CHECK(bind(false_holder, (struct sockaddr *)&name, name_size) == 0 &&
        listen(false_holder, 8) == 0);
  int before = descriptors();
  for (int i = 0; i < 60; i++) {
    bool trusts = i % 2;
    own_user_is_trusted = trusts;
    pid_t liar = fork();
    if (liar == 0) {
      struct tree_message hello, welcome = {.hello = {.pid = 1}};
      static const struct tree_key none;
      random_state += (uint64_t)i * 7919;
      for (;;) { /* a member may think that its holder was about to end, and try again */
        int received, socket_ = accept(false_holder, NULL, NULL);
        while ((received = tree_message_receive(socket_, &hello)) == 0) usleep(100);
        if (received < 0) { /* it has given up meanwhile */
          close(socket_);
          continue;
        }
        bool shown = memcmp(&hello.hello.key, &none, sizeof none) != 0;
        if (shown != trusts) _exit(3); /* the key is for those who are trusted */
        if (i % 4 < 2) tree_message_send(socket_, TREE_WELCOME, &welcome, -1);
        for (int n = 0; n < 20; n++) send_nonsense(socket_);
        usleep(1000);
        close(socket_);
      }
    }
    struct listen_address address = *parsed;
    int listener, status;
    char reason[200];
    enum tree_role role = process_tree_enter(&address, &listener, never, reason, sizeof reason);
    CHECK(trusts || role != TREE_MEMBER);
    welcomed += role == TREE_MEMBER;
    for (int n = 0; n < 50 && role == TREE_MEMBER && process_tree_handle(); n++) usleep(100);
    process_tree_leave();
    connection_inbox_close();
    if (listener >= 0) close(listener);
    kill(liar, SIGTERM);
    waitpid(liar, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
  }
  CHECK(welcomed > 5);
  CHECK(descriptors() == before);
  close(false_holder);
}

/* ---- tokens ---- */

/* What this process hears as a member of its own: the kind of the message; -1: it is closed. */
static int answer_to(uint64_t token) {
  struct tree_message message = {.hello = {.pid = getpid(), .token = token}};
  int socket_ = connect_to_holder(), received = 0;
  CHECK(tree_message_send(socket_, TREE_HELLO, &message, -1));
  while (received == 0) {
    process_tree_handle();
    received = tree_message_receive(socket_, &message);
  }
  close(socket_);
  process_tree_handle();
  return received < 0 ? -1 : (int)message.kind;
}

static void *list_again_and_again(void *unused) {
  size_t count;
  while (!stop) free(process_tree_list(&count));
  return unused;
}

/* ---- a member that takes a connection and is gone ---- */

static int given_away; /* the descriptor that is handed over */

static void *hand_over_to_self(void *result) {
  *(enum tree_handover *)result =
      process_tree_as_others.hand_over(getpid(), given_away, NULL, "GET ", 4, never);
  return NULL;
}

static int join_as_self(void) {
  struct tree_message message = {.hello = {.pid = getpid()}};
  int socket_ = connect_to_holder();
  CHECK(tree_message_send(socket_, TREE_HELLO, &message, -1));
  return socket_;
}

/* It answers what it is asked, up to the connection. */
static struct tree_message await_connection(int socket_) {
  struct tree_message message = {0};
  while (message.kind != TREE_CONNECTION) {
    process_tree_handle();
    if (tree_message_receive(socket_, &message) <= 0) continue;
    if (message.kind == TREE_ENTRY_WANTED) tree_message_send(socket_, TREE_ENTRY, &message, -1);
  }
  return message;
}

/* A worker of its has read a part of the request then: the holder must not answer in its place.
 * It ends, or becomes another program, which joins before the holder has heard of its end. */
static void check_taken_and_gone(bool comes_again) {
  int pair[2], later = -1;
  enum tree_handover result = TREE_BUSY;
  pthread_t worker;
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  given_away = pair[0];
  int socket_ = join_as_self();
  while (process_tree_size() != 2) process_tree_handle();
  pthread_create(&worker, NULL, hand_over_to_self, &result);
  if (comes_again) later = connect_to_holder();
  struct tree_message message = await_connection(socket_);
  struct tree_message hello = {.hello = {.pid = getpid()}};
  /* what comes first is heard first */
  if (comes_again) CHECK(tree_message_send(later, TREE_HELLO, &hello, -1));
  CHECK(tree_message_send(socket_, TREE_TAKEN, &message, -1));
  close(socket_);
  for (int i = 0; i < 8; i++) process_tree_handle();
  pthread_join(worker, NULL);
  CHECK(result == TREE_HANDED_OVER);
  if (later >= 0) close(later);
  while (process_tree_size() != 1) process_tree_handle();
  close(pair[0]);
  close(pair[1]);
}

static void fill_queue(int token) {
  struct sockaddr_un its;
  socklen_t size = sizeof its;
  int result = getsockname(token, (struct sockaddr *)&its, &size);
  while (result == 0) {
    int visitor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    result = connect(visitor, (struct sockaddr *)&its, size);
    CHECK(result == 0 || errno == EAGAIN);
    close(visitor);
  }
}

/* Strangers have filled a token's queue: its keeper makes room, and until then who shows it is sent
 * away without a refusal, to come again. */
static void check_tokens(void) {
  uint64_t number;
  bool crowded;
  int token = kinship_make(&number);
  CHECK(token >= 0 && kinship_proves(number, &crowded) && !crowded);
  own_user_is_trusted = false;
  CHECK(answer_to(number) == TREE_WELCOME && answer_to(number + 1) == TREE_REFUSED);
  fill_queue(token);
  CHECK(!kinship_proves(number, &crowded) && crowded);
  CHECK(answer_to(number) == -1);
  kinship_keep(token, number, getpid(), getuid());
  CHECK(kinship_kept_of(getpid() + 1, getuid()) == 0 && !kinship_proves(number, &crowded));
  CHECK(kinship_kept_of(getpid(), getuid()) == number);
  CHECK(kinship_proves(number, &crowded) && !crowded);
  CHECK(answer_to(number) == TREE_WELCOME);
  own_user_is_trusted = true;
  pthread_t lister;
  pthread_create(&lister, NULL, list_again_and_again, NULL);
  for (int i = 0; i < 50; i++) { /* nobody is asked for what he is before his welcome */
    fill_queue(token);
    CHECK(answer_to(0) == TREE_WELCOME);
  }
  stop = true;
  pthread_join(lister, NULL);
  stop = own_user_is_trusted = false;
  kinship_forget();
  CHECK(!kinship_proves(number, &crowded) && !crowded && answer_to(number) == TREE_REFUSED);
  own_user_is_trusted = true;
}

/* ---- descriptors ---- */

static bool may_give(uid_t sender) { return sender == getuid() && own_user_is_trusted; }

static bool is_locked(int file) {
  struct flock lock = {.l_type = F_WRLCK};
  pid_t other = fork();
  int status;
  if (other == 0) _exit(fcntl(file, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK);
  CHECK(waitpid(other, &status, 0) == other);
  return WEXITSTATUS(status) == 1;
}

/* Whether a descriptor that came to this process was closed again: that ends the record locks that
 * it has on the file, as it would wait for FUSE's daemon. */
static void check_descriptors(void) {
  int pair[2], descriptor;
  const int on = 1;
  int file = memfd_create("locked", MFD_CLOEXEC);
  struct flock lock = {.l_type = F_WRLCK};
  struct tree_message message = {0};
  uint32_t sender = 4711;
  CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0 && fcntl(file, F_SETLK, &lock) == 0);
  int before = descriptors();
  CHECK(tree_message_send(pair[0], TREE_HELLO, &message, file));
  CHECK(tree_message_receive(pair[1], &message) == 1 && message.kind == TREE_HELLO);
  CHECK(is_locked(file));
  CHECK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
  own_user_is_trusted = false;
  CHECK(tree_message_send(pair[0], TREE_WELCOME, &message, file));
  CHECK(tree_message_receive_from(pair[1], &message, &sender, may_give, &descriptor) == 1);
  CHECK(descriptor == -1 && sender == getuid() && is_locked(file));
  CHECK(descriptors() == before);
  own_user_is_trusted = true;
  CHECK(tree_message_send(pair[0], TREE_WELCOME, &message, file));
  CHECK(tree_message_receive_from(pair[1], &message, &sender, may_give, &descriptor) == 1);
  CHECK(descriptor >= 0 && descriptors() == before + 1);
  close(descriptor);
  CHECK(!is_locked(file)); /* so the test sees it */
  close(pair[0]);
  CHECK(tree_message_receive_from(pair[1], &message, &sender, may_give, &descriptor) == -1);
  close(pair[1]);
  close(file);
}

int main(void) {
  struct listen_address parsed, address;
  char reason[200], text[64];
  int listener, probe = socket(AF_INET, SOCK_STREAM, 0);
  /* A port that is free now. */
  CHECK(listen_address_parse("127.0.0.1:0", &parsed, reason, sizeof reason) &&
        bind(probe, &parsed.socket.generic, parsed.size) == 0);
  socklen_t size = parsed.size;
  getsockname(probe, &parsed.socket.generic, &size);
  listen_address_format(&parsed, text, sizeof text);
  close(probe);
  CHECK(listen_address_parse(text, &parsed, reason, sizeof reason));
  name.sun_family = AF_UNIX;
  name_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                          (size_t)sprintf(name.sun_path + 1, "pprofagent/%s", text));
  address = parsed;
  CHECK(process_tree_enter(&address, &listener, never, reason, sizeof reason) == TREE_HOLDER);
  check_tokens();
  for (int i = 0; i < 100; i++) check_taken_and_gone(i % 2);
  check_holder(&address, &parsed);
  close(listener);
  check_member(&parsed);
  check_descriptors();
  printf("%d failures\n", failures);
  return failures != 0;
}
