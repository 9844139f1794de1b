#include "connection_gate.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/runtime/agent_lock.h"
#include "agent/runtime/agent_thread.h"
#include "client_access.h"
#include "connection_inbox.h"
#include "listen_address.h"
#include "agent/runtime/paced_poll.h"
#include "other_processes.h"
#include "refused_connection.h"
#include "request_process.h"

#define MILLISECONDS INT64_C(1000000)
enum {
  STRANGERS_MAX = 32,
  ACCEPTS_AT_ONCE = 4,
  READ_MILLISECONDS = 2000, /* for a request's first bytes */
  ASK_MILLISECONDS = 1700, /* for another process to say whether it would answer */
  ASK_AGAIN_MILLISECONDS = 50,
  LINGER_MILLISECONDS = 300, /* for the client to read its answer, which a reset would destroy */
  LINGER_BYTES = 256 * 1024
};

enum state { FREE, READS, ASKS, LINGERS };

struct stranger {
  enum state state;
  int descriptor;
  struct client client;
  bool is_known; /* else text says why not */
  int64_t since_ns, deadline_ns;
  int process; /* that it asks for */
  size_t linger_left;
  unsigned char prefix_size;
  char prefix[INBOX_PREFIX_MAX];
  char text[CLIENT_ACCESS_TEXT_MAX]; /* of the refusal */
};

static struct agent_lock lock;
/* Guarded by lock. */
static struct stranger strangers[STRANGERS_MAX];
static unsigned stranger_count;
static int epoll_number; /* the descriptor + 1; 0: none yet */
static int further_number; /* the same of the further listener */

static int epoll_of(void) {
  if (!epoll_number) epoll_number = epoll_create1(EPOLL_CLOEXEC) + 1;
  return epoll_number - 1;
}

/* ---- strangers, under the lock ---- */

static void drop(struct stranger *stranger) {
  if (stranger->descriptor >= 0) close(stranger->descriptor);
  stranger->state = FREE;
  stranger_count--;
}

static void wait_for(struct stranger *stranger, enum state state, int milliseconds) {
  stranger->state = state;
  stranger->deadline_ns = agent_monotonic_nanoseconds() + milliseconds * MILLISECONDS;
}

/* Told once. Who asks another process is not read from meanwhile. */
static void watch(struct stranger *stranger) {
  uint32_t events = EPOLLONESHOT | (stranger->state == ASKS ? 0 : EPOLLIN | EPOLLRDHUP);
  struct epoll_event event = {.events = events, .data.ptr = stranger};
  if (epoll_ctl(epoll_number - 1, EPOLL_CTL_MOD, stranger->descriptor, &event) != 0) drop(stranger);
}

static void refuse(struct stranger *stranger) {
  bool head_only = stranger->prefix_size >= 5 && memcmp(stranger->prefix, "HEAD ", 5) == 0;
  forbid_connection(stranger->descriptor, stranger->text, head_only);
  stranger->linger_left = LINGER_BYTES;
  wait_for(stranger, LINGERS, LINGER_MILLISECONDS);
  watch(stranger);
}

static void let_in(struct stranger *stranger) {
  struct inbox_connection guest = {
      .descriptor = stranger->descriptor, .is_guest = true, .prefix_size = stranger->prefix_size};
  memcpy(guest.prefix, stranger->prefix, stranger->prefix_size);
  epoll_ctl(epoll_number - 1, EPOLL_CTL_DEL, stranger->descriptor, NULL);
  if (connection_inbox_is_crowded() || !connection_inbox_put(&guest))
    refuse_connection(stranger->descriptor, "too many connections");
  stranger->descriptor = -1;
  drop(stranger);
}

static void ask(struct stranger *stranger) {
  enum tree_answer answer =
      other_processes->would_answer(stranger->process, &stranger->client, stranger->text);
  if (answer == TREE_WOULD_ANSWER) return let_in(stranger);
  if (answer != TREE_ASKED) return refuse(stranger);
  if (stranger->state == ASKS) return;
  wait_for(stranger, ASKS, ASK_MILLISECONDS);
  watch(stranger);
}

static void read_request(struct stranger *stranger) {
  size_t room = sizeof stranger->prefix - stranger->prefix_size;
  char *to = stranger->prefix + stranger->prefix_size;
  ssize_t size = recv(stranger->descriptor, to, room, MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return watch(stranger);
  if (size <= 0) return drop(stranger);
  stranger->prefix_size = (unsigned char)(stranger->prefix_size + size);
  bool whole = request_process_find(stranger->prefix, stranger->prefix_size, &stranger->process);
  if (!whole && stranger->prefix_size < sizeof stranger->prefix) return watch(stranger);
  bool for_another = whole && stranger->process && stranger->process != getpid() &&
                     stranger->is_known && other_processes && other_processes->can_be_asked();
  if (for_another) ask(stranger);
  else refuse(stranger);
}

static void linger(struct stranger *stranger) {
  char ignored[4096];
  for (int i = 0; i < 8; i++) {
    ssize_t size = recv(stranger->descriptor, ignored, sizeof ignored, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return watch(stranger);
    if (size <= 0 || (size_t)size >= stranger->linger_left) return drop(stranger);
    stranger->linger_left -= (size_t)size;
  }
  watch(stranger);
}

static void go_on(struct stranger *stranger) {
  switch (stranger->state) {
    case READS: return read_request(stranger);
    case LINGERS: return linger(stranger);
    case ASKS: return drop(stranger); /* the client has gone */
    default: return;
  }
}

static unsigned strangers_of(uid_t uid) {
  unsigned count = 0;
  for (int i = 0; i < STRANGERS_MAX; i++)
    count += strangers[i].state != FREE && strangers[i].client.uid == uid;
  return count;
}

/* The oldest of the user that has most. */
static struct stranger *one_to_drop(void) {
  struct stranger *found = NULL;
  unsigned most = 0;
  for (int i = 0; i < STRANGERS_MAX; i++) {
    struct stranger *each = &strangers[i];
    unsigned of_user = strangers_of(each->client.uid);
    if (found && (of_user < most || (of_user == most && each->since_ns >= found->since_ns)))
      continue;
    found = each;
    most = of_user;
  }
  return found;
}

static struct stranger *place(void) {
  if (stranger_count == STRANGERS_MAX) drop(one_to_drop());
  for (int i = 0; i < STRANGERS_MAX; i++)
    if (strangers[i].state == FREE) return &strangers[i];
  return NULL;
}

/* prefix: what has been read of the request. */
static void receive(int descriptor, const struct client *client, const char *text,
                    const char *prefix, size_t prefix_size) {
  agent_lock_take(&lock);
  struct stranger *stranger = place();
  *stranger = (struct stranger){
      .descriptor = descriptor, .is_known = !text, .since_ns = agent_monotonic_nanoseconds()};
  if (!text) client_access_judge(client, stranger->text);
  else memcpy(stranger->text, text, sizeof stranger->text);
  stranger->client = *client;
  memcpy(stranger->prefix, prefix, prefix_size);
  stranger->prefix_size = (unsigned char)prefix_size;
  stranger_count++;
  wait_for(stranger, READS, READ_MILLISECONDS);
  struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, .data.ptr = stranger};
  bool is_watched =
      epoll_of() >= 0 && epoll_ctl(epoll_number - 1, EPOLL_CTL_ADD, descriptor, &event) == 0;
  if (!is_watched) { /* no descriptor, no memory: the answer may be lost */
    forbid_connection(descriptor, stranger->text, false);
    drop(stranger);
  } else if (prefix_size) {
    refuse(stranger);
  }
  agent_lock_release(&lock);
}

/* ---- the gate ---- */

static bool admits(int descriptor, const char *prefix, size_t prefix_size) {
  char text[CLIENT_ACCESS_TEXT_MAX], refusal[CLIENT_ACCESS_TEXT_MAX];
  struct client client;
  enum client_found found = client_access_find(descriptor, &client, text);
  if (found == CLIENT_NO_DESCRIPTOR) return true;
  if (found == CLIENT_FOUND && client_access_judge(&client, refusal)) return true;
  receive(descriptor, &client, found == CLIENT_FOUND ? NULL : text, prefix, prefix_size);
  return false;
}

bool connection_gate_admits(int descriptor, int listener) {
  const struct timespec pause = {.tv_nsec = 1000 * 1000};
  if (admits(descriptor, "", 0)) return true;
  /* who comes again and again shall not have a whole processor */
  if (!listen_address_queue_is_long(listener)) nanosleep(&pause, NULL);
  return false;
}

static void put(const struct inbox_connection *connection) {
  if (connection_inbox_put(connection)) return;
  refuse_connection(connection->descriptor, connection_inbox_is_crowded()
                                                ? "too many connections"
                                                : "the agent is out of descriptors");
}

void connection_gate_take(const struct inbox_connection *connection) {
  if (connection->authenticated ||
      admits(connection->descriptor, connection->prefix, connection->prefix_size))
    put(connection);
}

bool connection_gate_accept(int listener) {
  for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
    int descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (descriptor < 0) return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
    if (connection_gate_admits(descriptor, listener))
      put(&(struct inbox_connection){.descriptor = descriptor});
  }
  return true;
}

bool connection_gate_listen(int listener) {
  struct epoll_event event = {.events = EPOLLIN};
  agent_lock_take(&lock);
  bool done = epoll_of() >= 0 && epoll_ctl(epoll_number - 1, EPOLL_CTL_ADD, listener, &event) == 0;
  if (done) further_number = listener + 1;
  else close(listener);
  agent_lock_release(&lock);
  return done;
}

int connection_gate_event(void) {
  agent_lock_take(&lock);
  int event = epoll_number - 1;
  agent_lock_release(&lock);
  return event;
}

int connection_gate_milliseconds(void) {
  int64_t next = INT64_MAX;
  agent_lock_take(&lock);
  int64_t now = stranger_count ? agent_monotonic_nanoseconds() : 0;
  for (int i = 0; stranger_count && i < STRANGERS_MAX; i++) {
    const struct stranger *stranger = &strangers[i];
    if (stranger->state == FREE) continue;
    int64_t again = now + ASK_AGAIN_MILLISECONDS * MILLISECONDS;
    if (stranger->deadline_ns < next) next = stranger->deadline_ns;
    if (stranger->state == ASKS && again < next) next = again;
  }
  agent_lock_release(&lock);
  if (next == INT64_MAX) return -1;
  return next <= now ? 0 : (int)((next - now + MILLISECONDS - 1) / MILLISECONDS);
}

static bool hear(void) {
  struct epoll_event events[STRANGERS_MAX];
  bool others = false;
  int count = epoll_number ? epoll_wait(epoll_number - 1, events, STRANGERS_MAX, 0) : 0;
  for (int i = 0; i < count; i++) {
    if (events[i].data.ptr) go_on(events[i].data.ptr);
    else others = true;
  }
  return others;
}

static void look_after_time(void) {
  int64_t now = agent_monotonic_nanoseconds();
  for (int i = 0; i < STRANGERS_MAX; i++) {
    struct stranger *stranger = &strangers[i];
    if (stranger->state == ASKS && now < stranger->deadline_ns) ask(stranger);
    else if (stranger->state == ASKS) refuse(stranger);
    else if (stranger->state != FREE && now >= stranger->deadline_ns) drop(stranger);
  }
}

void connection_gate_handle(void) {
  agent_lock_take(&lock);
  bool others = hear();
  if (stranger_count) look_after_time();
  int further = further_number - 1;
  agent_lock_release(&lock);
  if (!others || further < 0 || connection_gate_accept(further)) return;
  if (!refuse_next_connection(further, "the agent is out of descriptors")) paced_poll_pause();
}

void connection_gate_close(void) {
  agent_lock_take(&lock);
  for (int i = 0; i < STRANGERS_MAX; i++)
    if (strangers[i].state != FREE) drop(&strangers[i]);
  if (further_number) close(further_number - 1);
  if (epoll_number) close(epoll_number - 1);
  further_number = epoll_number = 0;
  agent_lock_release(&lock);
}
