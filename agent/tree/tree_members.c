#include "tree_members.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "shim/base/raw_syscall.h"
#include "agent/runtime/agent_lock.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "agent/http/client_access.h"
#include "agent/runtime/log.h"
#include "agent/runtime/paced_poll.h"
#include "agent/http/process_owner.h"
#include "process_tree.h"
#include "spare_listener.h"
#include "tree_kinship.h"

enum {
  BACKLOG = 128,
  EVENTS_AT_ONCE = 64,
  STRANGERS_MAX = 16, /* connected, but have not said who they are */
  STRANGERS_OF_ONE_USER = 4,
  STRANGER_MILLISECONDS = 1000,
  LAST_MESSAGES = 64, /* that are heard of one that is gone */
  KEYS_MAX = 2
};

struct tree_member_table tree_members;
static char refusal[PROCESS_REFUSAL_MAX]; /* this and the next: guarded by the table's lock */
static unsigned refused;

static _Atomic unsigned joined_count;
static _Atomic uint32_t answers_received; /* the futex on which lists and requests wait */
static _Atomic uint32_t rounds;
static _Atomic int32_t hearing_thread; /* the admin thread, once somebody has joined */
static bool is_open, gives_way; /* these and the next: admin thread only */
static int listening_socket, epoll, shared_descriptor;
static uid_t listens_as; /* whom the kernel tells those who connect */
static struct tree_key own_keys[KEYS_MAX];
static unsigned own_key_count;
static struct member *dropped; /* freed when no event can name them any more */

static bool knows_key(const struct tree_key *key) {
  if (!tree_key_is_set(key)) return false;
  for (unsigned i = 0; i < own_key_count; i++)
    if (tree_key_equals(&own_keys[i], key)) return true;
  for (unsigned i = 0; i < tree_members.count; i++)
    if (tree_members.at[i]->joined && tree_key_equals(&tree_members.at[i]->key, key)) return true;
  return false;
}

/* ---- coming and going ---- */

static void drop(unsigned index) {
  struct member *member = tree_members.at[index];
  agent_lock_take(&tree_members.lock);
  tree_members.at[index] = tree_members.at[--tree_members.count];
  if (member->joined) atomic_fetch_sub(&joined_count, 1);
  /* Its close alone would not do where a forked child has a copy of it for a moment: the set would
   * still name what is freed by then. */
  epoll_ctl(epoll, EPOLL_CTL_DEL, member->descriptor, NULL);
  close(member->descriptor);
  member->descriptor = -1;
  agent_lock_release(&tree_members.lock);
  member->next_dropped = dropped;
  dropped = member;
}

static void free_dropped(void) {
  while (dropped) {
    struct member *next = dropped->next_dropped;
    agent_free(dropped);
    dropped = next;
  }
}

static void drop_member(const struct member *member) {
  for (unsigned i = 0; i < tree_members.count; i++)
    if (tree_members.at[i] == member) return drop(i);
}

static void refuse(int32_t pid, uint32_t uid, const char *why) {
  agent_lock_take(&tree_members.lock);
  refused++;
  snprintf(refusal, sizeof refusal, "process %d of user %u may not share the port: %s", (int)pid,
           (unsigned)uid, why);
  if ((refused & (refused - 1)) == 0)
    log_event("%.230s (%u so far)", refusal,
              refused); /* the 1st, 2nd, 4th, ...: a flood must not fill the log */
  agent_lock_release(&tree_members.lock);
}

/* Whether one more stranger may wait; those that have waited too long go. */
static bool has_room_for_stranger(uint32_t uid) {
  unsigned strangers = 0, of_user = 0;
  int64_t now = agent_monotonic_nanoseconds();
  for (unsigned i = tree_members.count; i-- > 0;) {
    if (tree_members.at[i]->joined) continue;
    if (now - tree_members.at[i]->connected_ns > STRANGER_MILLISECONDS * INT64_C(1000000)) {
      drop(i);
      continue;
    }
    strangers++;
    of_user += tree_members.at[i]->uid == uid;
  }
  return strangers < STRANGERS_MAX && of_user < STRANGERS_OF_ONE_USER;
}

static void accept_one(void) {
  int descriptor = accept4(listening_socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  struct ucred peer;
  socklen_t size = sizeof peer;
  if (descriptor < 0) return;
  struct member *member = NULL;
  if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) {
    if (tree_members.count == PROCESS_TREE_MAX) refuse(peer.pid, peer.uid, "there are too many");
    else if (client_access_shares(peer.uid) || has_room_for_stranger(peer.uid))
      member = agent_calloc(1, sizeof *member);
  }
  if (!member) {
    const struct timespec pause = {
        .tv_nsec =
            1000 * 1000}; /* whoever comes again and again shall not have a whole processor */
    close(descriptor);
    nanosleep(&pause, NULL);
    return;
  }
  *member = (struct member){.descriptor = descriptor,
                            .pid = peer.pid,
                            .uid = peer.uid,
                            .connected_ns = agent_monotonic_nanoseconds()};
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = member};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) != 0) {
    close(descriptor);
    agent_free(member);
    return;
  }
  agent_lock_take(&tree_members.lock);
  tree_members.at[tree_members.count++] = member;
  agent_lock_release(&tree_members.lock);
}

/* Under the lock. */
static void hear_taken(const struct member *member, uint32_t number) {
  for (struct given_connection *given = tree_members.given; given; given = given->next)
    if (given->pid == member->pid && given->connected_ns == member->connected_ns &&
        (int32_t)(number - given->number) >= 0)
      given->taken = true;
}

/* The same process is another program by now, and joins. What it took before, the holder must not
 * answer: a worker of its has read a part of it. */
static void hear_the_last_of(struct member *before) {
  struct tree_message message;
  for (int i = 0; i < LAST_MESSAGES && tree_message_receive(before->descriptor, &message) > 0;
       i++) {
    if (message.kind != TREE_TAKEN) continue;
    agent_lock_take(&tree_members.lock);
    hear_taken(before, message.round);
    agent_lock_release(&tree_members.lock);
  }
}

/* With what a member is given: a token of this process's to one that is known by its key alone, or
 * a unix address's listening socket. */
static bool welcome(const struct member *member, struct tree_message *answer, bool shows_token) {
  bool is_trusted = client_access_shares(member->uid);
  uint64_t *number = &answer->hello.token;
  *number = is_trusted ? kinship_kept_of(member->pid, member->uid) : 0;
  int token = is_trusted || shows_token ? -1 : kinship_make(number), given = token;
  /* what comes with a number is taken for a token */
  if (!*number && spare_listener_may_go_to(member->uid)) given = shared_descriptor;
  bool sent = tree_message_send(member->descriptor, TREE_WELCOME, answer, given);
  if (token >= 0) close(token);
  return sent;
}

/* False: it may not. */
static bool join(struct member *member, const struct tree_message *hello) {
  const char *why = NULL;
  if (member->joined) return false;
  bool crowded, shows_token = kinship_proves(hello->hello.token, &crowded);
  bool has_key = shows_token || knows_key(&hello->hello.key);
  bool is_stranger = !client_access_shares(member->uid) && !has_key;
  if (is_stranger && crowded) return false; /* it comes again */
  if (is_stranger)
    why =
        "it is another user's; PPROFAGENT_ALLOW_UIDS of the process that holds the port may name "
        "that one";
  else if (hello->hello.pid != member->pid) why = "it is in another pid namespace";
  struct tree_message answer = {.hello = {.pid = member->pid}};
  if (why) {
    refuse(member->pid, member->uid, why);
    tree_message_send(member->descriptor, TREE_REFUSED, &answer, -1);
    return false;
  }
  if (own_key_count && (tree_keys_may_show(member->uid) || has_key)) answer.hello.key = own_keys[0];
  for (unsigned i = tree_members.count; i-- > 0;) { /* what the process was before exec */
    if (!tree_members.at[i]->joined || tree_members.at[i]->pid != member->pid) continue;
    hear_the_last_of(tree_members.at[i]);
    drop(i);
  }
  if (!welcome(member, &answer, shows_token)) return false; /* first: workers ask who has joined */
  agent_lock_take(&tree_members.lock);
  member->joined = true;
  member->has_key = has_key;
  member->key = hello->hello.key;
  agent_lock_release(&tree_members.lock);
  atomic_fetch_add(&joined_count, 1);
  return true;
}

static void wake_those_who_wait(void) {
  atomic_fetch_add(&answers_received, 1);
  raw_futex_wake(&answers_received, INT32_MAX);
}

/* Under the lock. */
static void hear_entry(struct member *member, const struct tree_message *message) {
  member->entry = message->entry;
  member->audience = message->audience;
  member->round = message->round;
  member->heard_ns = agent_monotonic_nanoseconds();
}

/* Messages about the membership itself. False: it is none of them, or ends it. */
static bool hear_member(struct member *member, const struct tree_message *message) {
  if (message->kind == TREE_HELLO) return join(member, message);
  bool wants_port = message->kind == TREE_GIVE_WAY && member->joined;
  if (wants_port && member->uid == 0 && !process_owner_is(0)) gives_way = true;
  return false; /* it closes */
}

static void hear(struct member *member) {
  if (member->descriptor < 0) return;
  struct tree_message message;
  int received = tree_message_receive(member->descriptor, &message);
  if (received == 0) return;
  if (received > 0 && hear_member(member, &message)) return;
  bool is_answer =
      received > 0 && member->joined && (message.kind == TREE_ENTRY || message.kind == TREE_TAKEN);
  if (!is_answer) return drop_member(member);
  bool taken = message.kind == TREE_TAKEN;
  message.entry.pid = member->pid;
  message.entry.is_holder = false;
  message.entry.answered = true;
  message.entry.name[PROCESS_NAME_MAX - 1] = message.entry.command[PROCESS_COMMAND_MAX - 1] = 0;
  agent_lock_take(&tree_members.lock);
  if (taken) hear_taken(member, message.round);
  else hear_entry(member, &message);
  member->silent = false;
  agent_lock_release(&tree_members.lock);
  wake_those_who_wait();
}

bool tree_members_open(int socket, const struct tree_key *keys, unsigned key_count, int shared) {
  epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN};
  if (epoll < 0) return false;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event) != 0 || listen(socket, BACKLOG) != 0) {
    close(epoll);
    return false;
  }
  listening_socket = socket;
  listens_as = process_owner_users().effective;
  shared_descriptor = shared;
  own_key_count = 0;
  for (unsigned i = 0; i < key_count && own_key_count < KEYS_MAX; i++)
    if (tree_key_is_set(&keys[i])) own_keys[own_key_count++] = keys[i];
  is_open = true;
  gives_way = false;
  return true;
}

bool tree_members_are_to_give_way(void) { return is_open && gives_way; }

int tree_members_event(void) { return is_open ? epoll : -1; }

void tree_members_handle(void) {
  struct epoll_event events[EVENTS_AT_ONCE];
  atomic_store(&hearing_thread, gettid());
  int count = is_open ? epoll_wait(epoll, events, EVENTS_AT_ONCE, 0) : 0;
  if (count < 0) paced_poll_pause(); /* a filter's list: the caller would be told at once again */
  for (int i = 0; i < count; i++)
    if (events[i].data.ptr) hear(events[i].data.ptr);
  for (int i = 0; i < count; i++)
    if (!events[i].data.ptr) accept_one();
  free_dropped();
}

void tree_members_look(void) {
  uid_t now = process_owner_users().effective;
  if (!is_open || now == listens_as) return;
  listens_as = now;
  listen(listening_socket, BACKLOG);
}

void tree_members_close(void) {
  if (!is_open) return;
  is_open = false;
  while (tree_members.count) drop(tree_members.count - 1);
  free_dropped();
  close(listening_socket);
  close(epoll);
}

/* ---- for HTTP workers ---- */

unsigned tree_members_joined(void) { return atomic_load(&joined_count); }

unsigned process_tree_refusals(char last[PROCESS_REFUSAL_MAX]) {
  agent_lock_take(&tree_members.lock);
  unsigned count = refused;
  memcpy(last, refusal, sizeof refusal);
  agent_lock_release(&tree_members.lock);
  return count;
}

uint32_t tree_members_next_round(void) { return atomic_fetch_add(&rounds, 1) + 1; }

uint32_t tree_members_answers(void) { return atomic_load(&answers_received); }

/* Where the admin thread answers clients itself, nobody else hears the members meanwhile. */
void tree_members_await_answer(uint32_t before, int64_t nanoseconds) {
  if (gettid() == hearing_thread) {
    struct pollfd wait = {.fd = epoll, .events = POLLIN};
    if (poll(&wait, 1, (int)(nanoseconds / 1000000) + 1) > 0) tree_members_handle();
    return;
  }
  struct timespec timeout = {.tv_nsec = nanoseconds};
  raw_futex_wait(&answers_received, before, &timeout);
}
