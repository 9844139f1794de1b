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
#include "tree_kinship.h"

enum {
  BACKLOG = 128,
  EVENTS_AT_ONCE = 64,
  STRANGERS_MAX = 16, /* connected, but have not said who they are */
  STRANGERS_OF_ONE_USER = 4,
  STRANGER_MILLISECONDS = 1000,
  LIST_MILLISECONDS = 250,
  HAND_OVER_MILLISECONDS = 1700, /* the client has an answer within two seconds */
  FRESH_MILLISECONDS = 250, /* what a member has said of itself, for a stranger's sake */
  SILENT_MILLISECONDS = 100, /* what one that has not answered before is given */
  LOOK_MILLISECONDS = 50, /* whether the caller gives up */
  KEYS_MAX = 2
};

struct member {
  int descriptor; /* -1: dropped */
  struct member *next_dropped;
  int32_t pid; /* as the kernel says, like uid */
  uint32_t uid;
  bool joined;
  bool has_key; /* it may share the port whatever its user is */
  uint32_t round; /* of its newest entry */
  /* connections: the number of the newest, and of the newest that it has acknowledged */
  uint32_t given, taken;
  bool silent; /* it let a request wait in vain, and has not answered since */
  int64_t connected_ns;
  int64_t asked_ns, heard_ns; /* for a stranger's sake; when its newest entry came. 0: never */
  struct tree_key key;
  struct process_entry entry;
  struct process_audience audience;
};

static struct agent_lock lock;
/* Guarded by lock: changed by the admin thread only, read by workers. */
static struct member *members[PROCESS_TREE_MAX];
static unsigned member_count;
static char refusal[PROCESS_REFUSAL_MAX];
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

static bool is_key(const struct tree_key *key) {
  static const struct tree_key none;
  return memcmp(key, &none, sizeof none) != 0;
}

static bool same_key(const struct tree_key *a, const struct tree_key *b) {
  return memcmp(a, b, sizeof *a) == 0;
}

static bool knows_key(const struct tree_key *key) {
  if (!is_key(key)) return false;
  for (unsigned i = 0; i < own_key_count; i++)
    if (same_key(&own_keys[i], key)) return true;
  for (unsigned i = 0; i < member_count; i++)
    if (members[i]->joined && same_key(&members[i]->key, key)) return true;
  return false;
}

/* ---- coming and going ---- */

static void drop(unsigned index) {
  struct member *member = members[index];
  agent_lock_take(&lock);
  members[index] = members[--member_count];
  if (member->joined) atomic_fetch_sub(&joined_count, 1);
  /* Its close alone would not do where a forked child has a copy of it for a moment: the set would
   * still name what is freed by then. */
  epoll_ctl(epoll, EPOLL_CTL_DEL, member->descriptor, NULL);
  close(member->descriptor);
  member->descriptor = -1;
  agent_lock_release(&lock);
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
  for (unsigned i = 0; i < member_count; i++)
    if (members[i] == member) return drop(i);
}

static void refuse(int32_t pid, uint32_t uid, const char *why) {
  agent_lock_take(&lock);
  refused++;
  snprintf(refusal, sizeof refusal, "process %d of user %u may not share the port: %s", (int)pid,
           (unsigned)uid, why);
  if ((refused & (refused - 1)) == 0)
    log_event("%.230s (%u so far)", refusal,
              refused); /* the 1st, 2nd, 4th, ...: a flood must not fill the log */
  agent_lock_release(&lock);
}

/* Whether one more stranger may wait; those that have waited too long go. */
static bool has_room_for_stranger(uint32_t uid) {
  unsigned strangers = 0, of_user = 0;
  int64_t now = agent_monotonic_nanoseconds();
  for (unsigned i = member_count; i-- > 0;) {
    if (members[i]->joined) continue;
    if (now - members[i]->connected_ns > STRANGER_MILLISECONDS * INT64_C(1000000)) {
      drop(i);
      continue;
    }
    strangers++;
    of_user += members[i]->uid == uid;
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
    if (member_count == PROCESS_TREE_MAX) refuse(peer.pid, peer.uid, "there are too many");
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
  agent_lock_take(&lock);
  members[member_count++] = member;
  agent_lock_release(&lock);
}

/* With what a member is given: a token of this process's to one that is known by its key alone, or
 * a unix address's listening socket. */
static bool welcome(const struct member *member, struct tree_message *answer, bool shows_token) {
  bool is_trusted = client_access_shares(member->uid);
  uint64_t *number = &answer->hello.token;
  *number = is_trusted ? kinship_kept_of(member->pid, member->uid) : 0;
  int token = is_trusted || shows_token ? -1 : kinship_make(number), given = token;
  /* what comes with a number is taken for a token */
  if (!*number && process_tree_may_give_listener(member->uid)) given = shared_descriptor;
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
  if (own_key_count && (process_tree_may_show_key(member->uid) || has_key))
    answer.hello.key = own_keys[0];
  for (unsigned i = member_count; i-- > 0;) /* what the process was before exec */
    if (members[i]->joined && members[i]->pid == member->pid) drop(i);
  if (!welcome(member, &answer, shows_token)) return false; /* first: workers ask who has joined */
  agent_lock_take(&lock);
  member->joined = true;
  member->has_key = has_key;
  member->key = hello->hello.key;
  agent_lock_release(&lock);
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
  agent_lock_take(&lock);
  if (taken) member->taken = message.round;
  else hear_entry(member, &message);
  member->silent = false;
  agent_lock_release(&lock);
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
    if (is_key(&keys[i])) own_keys[own_key_count++] = keys[i];
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
  while (member_count) drop(member_count - 1);
  free_dropped();
  close(listening_socket);
  close(epoll);
}

/* ---- for HTTP workers ---- */

unsigned process_tree_size(void) {
  return 1 + atomic_load(&joined_count) + (process_tree_role() == TREE_MEMBER);
}

unsigned process_tree_refusals(char last[PROCESS_REFUSAL_MAX]) {
  agent_lock_take(&lock);
  unsigned count = refused;
  memcpy(last, refusal, sizeof refusal);
  agent_lock_release(&lock);
  return count;
}

/* Until somebody has answered since `before` was read; at most so long, which is below a second.
 * Where the admin thread answers clients itself, nobody else hears the members meanwhile. */
static void wait_for_answer(uint32_t before, int64_t nanoseconds) {
  if (gettid() == hearing_thread) {
    struct pollfd wait = {.fd = epoll, .events = POLLIN};
    if (poll(&wait, 1, (int)(nanoseconds / 1000000) + 1) > 0) tree_members_handle();
    return;
  }
  struct timespec timeout = {.tv_nsec = nanoseconds};
  raw_futex_wait(&answers_received, before, &timeout);
}

/* One request for one member. The kernel gives a pid to another program at exec, and again to
 * another process: connected_ns tells them apart. */
struct handover {
  int pid;
  int64_t connected_ns, deadline_ns;
  uint32_t round, number;
  bool (*give_up)(void);
};

/* Under the lock. NULL: there is none that may share the port now. */
static struct member *find_member(int pid) {
  for (unsigned i = 0; i < member_count; i++) {
    struct member *member = members[i];
    if (member->pid == pid && member->joined)
      return member->has_key || client_access_shares(member->uid) ? member : NULL;
  }
  return NULL;
}

/* Under the lock. NULL: it is gone. */
static struct member *member_of(const struct handover *handover) {
  struct member *member = find_member(handover->pid);
  if (!member || !handover->connected_ns) return member;
  return member->connected_ns == handover->connected_ns ? member : NULL;
}

/* Waits until the member has answered the question of that round or, once there is a number, has
 * taken that connection. */
static enum tree_handover await_answer(const struct handover *handover) {
  for (;;) {
    uint32_t before = atomic_load(&answers_received);
    agent_lock_take(&lock);
    const struct member *member = member_of(handover);
    bool answered = member && (int32_t)(handover->number ? member->taken - handover->number
                                                         : member->round - handover->round) >= 0;
    agent_lock_release(&lock);
    int64_t left = handover->deadline_ns - agent_monotonic_nanoseconds(),
            look = LOOK_MILLISECONDS * INT64_C(1000000);
    if (!member) return TREE_NO_SUCH_PROCESS;
    if (answered) return TREE_HANDED_OVER;
    if (left <= 0 || handover->give_up()) return TREE_SILENT;
    wait_for_answer(before, left < look ? left : look);
  }
}

/* Whether it answers at all: what is given to one that is stopped would wait there for ever. */
static enum tree_handover ask_first(struct handover *handover) {
  struct tree_message question = {.round = handover->round = atomic_fetch_add(&rounds, 1) + 1};
  agent_lock_take(&lock);
  struct member *member = member_of(handover);
  if (member) {
    int milliseconds = member->silent ? SILENT_MILLISECONDS : HAND_OVER_MILLISECONDS;
    handover->connected_ns = member->connected_ns;
    handover->deadline_ns = agent_monotonic_nanoseconds() + milliseconds * INT64_C(1000000);
    tree_message_send(member->descriptor, TREE_ENTRY_WANTED, &question, -1);
  }
  agent_lock_release(&lock);
  enum tree_handover result = member ? await_answer(handover) : TREE_NO_SUCH_PROCESS;
  if (result != TREE_SILENT || handover->give_up()) return result;
  agent_lock_take(&lock);
  if ((member = member_of(handover)) != NULL) member->silent = true;
  agent_lock_release(&lock);
  return result;
}

/* By what it has said of itself just now. */
static bool would_answer(const struct member *member, const struct client *client) {
  char ignored[CLIENT_ACCESS_TEXT_MAX];
  return !client || client_access_judge_for(&member->audience, client, ignored);
}

enum tree_handover tree_members_hand_over(int pid, int descriptor, const struct client *client,
                                          const char *prefix, size_t prefix_size,
                                          bool (*give_up)(void)) {
  struct tree_message message = {
      .connection = {.authenticated = !client, .prefix_size = (uint8_t)prefix_size}};
  struct handover handover = {.pid = pid, .give_up = give_up};
  if (prefix_size > sizeof message.connection.prefix) return TREE_BUSY;
  memcpy(message.connection.prefix, prefix, prefix_size);
  enum tree_handover result = ask_first(&handover);
  if (result != TREE_HANDED_OVER) return result;
  agent_lock_take(&lock);
  struct member *member = member_of(&handover);
  result = TREE_NO_SUCH_PROCESS;
  if (member && !would_answer(member, client)) {
    result = TREE_REFUSES;
  } else if (member) {
    message.round = handover.number = ++member->given;
    if (tree_message_send(member->descriptor, TREE_CONNECTION, &message, descriptor))
      result = TREE_HANDED_OVER;
    else if (errno != EPIPE && errno != ECONNRESET) result = TREE_BUSY;
  }
  agent_lock_release(&lock);
  return result == TREE_HANDED_OVER ? await_answer(&handover) : result;
}

/* Under the lock. Strangers may ask as often as they like: the member hears of it now and then. */
static enum tree_answer look_at(struct member *member, const struct client *client, char *text) {
  const int64_t fresh = FRESH_MILLISECONDS * INT64_C(1000000);
  int64_t now = agent_monotonic_nanoseconds();
  if (member->heard_ns && now - member->heard_ns < fresh)
    return client_access_judge_for(&member->audience, client, text) ? TREE_WOULD_ANSWER
                                                                    : TREE_WOULD_NOT;
  if (member->asked_ns && now - member->asked_ns < fresh) return TREE_ASKED;
  struct tree_message question = {.round = atomic_fetch_add(&rounds, 1) + 1};
  member->asked_ns = now;
  tree_message_send(member->descriptor, TREE_ENTRY_WANTED, &question, -1);
  return TREE_ASKED;
}

enum tree_answer tree_members_would_answer(int pid, const struct client *client, char *text) {
  agent_lock_take(&lock);
  struct member *member = find_member(pid);
  enum tree_answer answer = member ? look_at(member, client, text) : TREE_NOBODY;
  agent_lock_release(&lock);
  return answer;
}

static bool all_have_answered(uint32_t round) {
  bool all = true;
  agent_lock_take(&lock);
  for (unsigned i = 0; i < member_count; i++)
    all = all && (!members[i]->joined || (int32_t)(members[i]->round - round) >= 0);
  agent_lock_release(&lock);
  return all;
}

static void ask_all(uint32_t round) {
  struct tree_message question = {.round = round};
  agent_lock_take(&lock);
  for (unsigned i = 0; i < member_count; i++)
    if (members[i]->joined)
      tree_message_send(members[i]->descriptor, TREE_ENTRY_WANTED, &question, -1);
  agent_lock_release(&lock);
}

static void sort_by_pid(struct process_entry *entries, size_t count) {
  for (size_t i = 1; i < count; i++) { /* a thousand at most, mostly in order */
    struct process_entry one = entries[i];
    size_t at = i;
    for (; at > 0 && entries[at - 1].pid > one.pid; at--) entries[at] = entries[at - 1];
    entries[at] = one;
  }
}

struct process_entry *process_tree_list(size_t *count) {
  uint32_t round = atomic_fetch_add(&rounds, 1) + 1;
  int64_t deadline = agent_monotonic_nanoseconds() + LIST_MILLISECONDS * INT64_C(1000000);
  ask_all(round);
  for (;;) {
    uint32_t before = atomic_load(&answers_received);
    int64_t left = deadline - agent_monotonic_nanoseconds();
    if (left <= 0 || all_have_answered(round)) break;
    wait_for_answer(before, left);
  }
  struct process_entry *entries = agent_calloc(PROCESS_TREE_MAX + 1, sizeof *entries);
  if (!entries) return NULL;
  process_entry_read(&entries[0]);
  entries[0].is_holder = process_tree_role() == TREE_HOLDER;
  *count = 1;
  agent_lock_take(&lock);
  for (unsigned i = 0; i < member_count; i++) {
    const struct member *member = members[i];
    if (!member->joined) continue;
    bool answered = (int32_t)(member->round - round) >= 0;
    entries[(*count)++] =
        answered ? member->entry
                 : (struct process_entry){.pid = member->pid, .uid = member->uid, .heap_bytes = -1};
  }
  agent_lock_release(&lock);
  sort_by_pid(entries, *count);
  return entries;
}
