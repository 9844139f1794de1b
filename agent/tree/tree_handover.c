#include "tree_handover.h"

#include <errno.h>
#include <string.h>

#include "agent/http/client_access.h"
#include "agent/runtime/agent_thread.h"
#include "tree_members.h"

enum {
  HAND_OVER_MILLISECONDS = 1700, /* the client has an answer within two seconds */
  FRESH_MILLISECONDS = 250, /* what a member has said of itself, for a stranger's sake */
  SILENT_MILLISECONDS = 100, /* what one that has not answered before is given */
  LOOK_MILLISECONDS = 50 /* whether the caller gives up */
};

/* One request for one member. The kernel gives a pid to another program at exec, and again to
 * another process: connected_ns tells them apart. */
struct handover {
  struct given_connection given; /* number 0: not yet */
  int64_t deadline_ns;
  uint32_t round;
  bool (*give_up)(void);
};

/* Under the lock. NULL: there is none that may share the port now. */
static struct member *find_member(int pid) {
  for (unsigned i = 0; i < tree_members.count; i++) {
    struct member *member = tree_members.at[i];
    if (member->pid == pid && member->joined)
      return member->has_key || client_access_shares(member->uid) ? member : NULL;
  }
  return NULL;
}

/* Under the lock. NULL: it is gone. */
static struct member *member_of(const struct handover *handover) {
  struct member *member = find_member(handover->given.pid);
  if (!member || !handover->given.connected_ns) return member;
  return member->connected_ns == handover->given.connected_ns ? member : NULL;
}

/* Waits until the member has answered the question of that round or, once there is a number, has
 * taken that connection. */
static enum tree_handover await_answer(const struct handover *handover) {
  for (;;) {
    uint32_t before = tree_members_answers();
    agent_lock_take(&tree_members.lock);
    const struct member *member = member_of(handover);
    bool answered = handover->given.number
                        ? handover->given.taken
                        : member && (int32_t)(member->round - handover->round) >= 0;
    agent_lock_release(&tree_members.lock);
    int64_t left = handover->deadline_ns - agent_monotonic_nanoseconds(),
            look = LOOK_MILLISECONDS * INT64_C(1000000);
    if (answered) return TREE_HANDED_OVER;
    if (!member) return TREE_NO_SUCH_PROCESS;
    if (left <= 0 || handover->give_up()) return TREE_SILENT;
    tree_members_await_answer(before, left < look ? left : look);
  }
}

/* Whether it answers at all: what is given to one that is stopped would wait there for ever. */
static enum tree_handover ask_first(struct handover *handover) {
  struct tree_message question = {.round = handover->round = tree_members_next_round()};
  agent_lock_take(&tree_members.lock);
  struct member *member = member_of(handover);
  if (member) {
    int milliseconds = member->silent ? SILENT_MILLISECONDS : HAND_OVER_MILLISECONDS;
    handover->given.connected_ns = member->connected_ns;
    handover->deadline_ns = agent_monotonic_nanoseconds() + milliseconds * INT64_C(1000000);
    tree_message_send(member->descriptor, TREE_ENTRY_WANTED, &question, -1);
  }
  agent_lock_release(&tree_members.lock);
  enum tree_handover result = member ? await_answer(handover) : TREE_NO_SUCH_PROCESS;
  if (result != TREE_SILENT || handover->give_up()) return result;
  agent_lock_take(&tree_members.lock);
  if ((member = member_of(handover)) != NULL) member->silent = true;
  agent_lock_release(&tree_members.lock);
  return result;
}

/* By what it has said of itself just now. */
static bool would_answer(const struct member *member, const struct client *client) {
  char ignored[CLIENT_ACCESS_TEXT_MAX];
  return !client || client_access_judge_for(&member->audience, client, ignored);
}

/* Under the lock. */
static void await_taking(struct given_connection *given) {
  given->next = tree_members.given;
  tree_members.given = given;
}

static void forget_taking(struct given_connection *given) {
  agent_lock_take(&tree_members.lock);
  struct given_connection **at = &tree_members.given;
  while (*at != given) at = &(*at)->next;
  *at = given->next;
  agent_lock_release(&tree_members.lock);
}

enum tree_handover tree_handover(int pid, int descriptor, const struct client *client,
                                 const char *prefix, size_t prefix_size, bool (*give_up)(void)) {
  struct tree_message message = {
      .connection = {.authenticated = !client, .prefix_size = (uint8_t)prefix_size}};
  struct handover handover = {.given = {.pid = pid}, .give_up = give_up};
  if (prefix_size > sizeof message.connection.prefix) return TREE_BUSY;
  memcpy(message.connection.prefix, prefix, prefix_size);
  enum tree_handover result = ask_first(&handover);
  if (result != TREE_HANDED_OVER) return result;
  agent_lock_take(&tree_members.lock);
  struct member *member = member_of(&handover);
  result = TREE_NO_SUCH_PROCESS;
  if (member && !would_answer(member, client)) {
    result = TREE_REFUSES;
  } else if (member) {
    message.round = handover.given.number = ++member->given;
    if (tree_message_send(member->descriptor, TREE_CONNECTION, &message, descriptor))
      result = TREE_HANDED_OVER;
    else if (errno != EPIPE && errno != ECONNRESET) result = TREE_BUSY;
  }
  if (result == TREE_HANDED_OVER) await_taking(&handover.given);
  agent_lock_release(&tree_members.lock);
  if (result != TREE_HANDED_OVER) return result;
  result = await_answer(&handover);
  forget_taking(&handover.given);
  return result;
}

/* Under the lock. Strangers may ask as often as they like: the member hears of it now and then. */
static enum tree_answer look_at(struct member *member, const struct client *client, char *text) {
  const int64_t fresh = FRESH_MILLISECONDS * INT64_C(1000000);
  int64_t now = agent_monotonic_nanoseconds();
  if (member->heard_ns && now - member->heard_ns < fresh)
    return client_access_judge_for(&member->audience, client, text) ? TREE_WOULD_ANSWER
                                                                    : TREE_WOULD_NOT;
  if (member->asked_ns && now - member->asked_ns < fresh) return TREE_ASKED;
  struct tree_message question = {.round = tree_members_next_round()};
  member->asked_ns = now;
  tree_message_send(member->descriptor, TREE_ENTRY_WANTED, &question, -1);
  return TREE_ASKED;
}

enum tree_answer tree_handover_would_answer(int pid, const struct client *client, char *text) {
  agent_lock_take(&tree_members.lock);
  struct member *member = find_member(pid);
  enum tree_answer answer = member ? look_at(member, client, text) : TREE_NOBODY;
  agent_lock_release(&tree_members.lock);
  return answer;
}
