#include "process_tree.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "agent/runtime/agent_status.h"
#include "agent/runtime/log.h"
#include "agent/http/process_owner.h"
#include "spare_listener.h"
#include "tree_handover.h"
#include "tree_keys.h"
#include "tree_kinship.h"
#include "tree_members.h"
#include "tree_membership.h"

enum {
  TRIES = 100,
  NAP_NANOSECONDS = 5000000, /* another process is about to be the holder */
  PORT_TRIES = 60, /* the last holder's port may be closed a moment after its name */
  /* Naps of those that let others have the port. A process that gave up its user: what root starts
     later can join only root's. */
  NAPS_FOR_ROOT = 6,
  NAPS_FOR_PARENT = 20, /* a child forked before its parent was in */
  NAPS_FOR_HOLDER = 1 /* it may be back at once (agent_absence.c) */
};

static _Atomic int role; /* enum tree_role; written by the admin thread */
static _Atomic bool
    nameless; /* holds the port, but not the tree's name; written by the admin thread */
static char fault[200]; /* why; written before that and before the role */
/* Admin thread only. */
static struct listen_address tree_address;
static bool parent_goes_first; /* written before the thread starts */
static bool has_lost_holder; /* and may yet find it again */
static bool (*wanted_away)(void); /* this and the next: while it enters */
static bool is_leaving;
static bool was_inside; /* ever; or has met one who holds the port */

enum tree_role process_tree_role(void) {
  return (enum tree_role)atomic_load_explicit(&role, memory_order_acquire);
}

static bool holds_port(void) { return process_tree_role() == TREE_HOLDER; }

const struct other_processes process_tree_as_others = {.can_be_asked = holds_port,
                                                       .hand_over = tree_handover,
                                                       .would_answer = tree_handover_would_answer};

const char *process_tree_off_reason(char out[SHARED_TEXT_MAX]) {
  if (process_tree_role() == TREE_HOLDER || process_tree_role() == TREE_MEMBER) return NULL;
  return *agent_status_off(out) ? out : "not started yet";
}

static void nap(void) {
  struct timespec pause = {.tv_nsec = NAP_NANOSECONDS};
  nanosleep(&pause, NULL);
}

/* Before each wait, all of which are short. */
static bool leaves(void) { return is_leaving = is_leaving || wanted_away(); }

void process_tree_let_parent_go_first(void) { parent_goes_first = true; }

/* "\0pprofagent/127.0.0.1:6060". 0: it would be too long. */
static socklen_t tree_name(const struct listen_address *address, struct sockaddr_un *out) {
  char text[160];
  listen_address_format(address, text, sizeof text);
  *out = (struct sockaddr_un){.sun_family = AF_UNIX};
  int length = snprintf(out->sun_path + 1, sizeof out->sun_path - 1, "pprofagent/%s", text);
  if (length < 0 || (size_t)length >= sizeof out->sun_path - 1) return 0;
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

static int tree_socket(void) {
  int made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (made >= 0) tree_message_refuse_descriptors(made, true);
  return made;
}

unsigned process_tree_size(void) {
  return 1 + tree_members_joined() + (process_tree_role() == TREE_MEMBER);
}

bool process_tree_is_last(void) {
  struct sockaddr_un name;
  if (process_tree_role() == TREE_HOLDER) return process_tree_size() == 1;
  socklen_t size = tree_name(&tree_address, &name);
  int probe = size ? tree_socket() : -1;
  bool is_last = probe >= 0 && connect(probe, (const struct sockaddr *)&name, size) != 0 &&
                 errno == ECONNREFUSED;
  if (probe >= 0) close(probe);
  return is_last;
}

static int open_port(struct listen_address *address, unsigned tries, char *reason,
                     size_t reason_size) {
  for (;;) {
    struct listen_address attempt = *address;
    int listener = listen_address_open(&attempt, reason, reason_size);
    if (listener >= 0) *address = attempt;
    if (listener >= 0 || errno != EADDRINUSE || --tries == 0 || leaves()) return listener;
    nap();
  }
}

static void have_no_name(const char *why) {
  snprintf(fault, sizeof fault, "%s", why);
  log_event("other processes cannot share this port: %s", fault);
  atomic_store_explicit(&nameless, true, memory_order_release);
}

/* What members are given. */
static int shared_listener(const struct listen_address *address, int listener) {
  return address->socket.generic.sa_family == AF_UNIX ? listener : -1;
}

static bool take_name(const struct listen_address *address, int listener) {
  struct sockaddr_un name;
  socklen_t size = tree_name(address, &name);
  int socket = size ? tree_socket() : -1;
  if (socket >= 0 && bind(socket, (const struct sockaddr *)&name, size) == 0 &&
      tree_members_open(socket, tree_keys(), TREE_KEYS, shared_listener(address, listener)))
    return true;
  if (socket >= 0) close(socket);
  return false;
}

/* This process has the name: founds the tree, or goes on with it. TREE_OUTSIDE: those who have a
 * unix address's listening socket are about to do so. */
static enum tree_role found_tree(int socket, struct listen_address *address, int *listener,
                                 char *reason, size_t reason_size) {
  bool is_unix = address->socket.generic.sa_family == AF_UNIX;
  *listener = spare_listener_take(&tree_address);
  if (*listener < 0) *listener = open_port(address, is_unix ? 1 : PORT_TRIES, reason, reason_size);
  bool others_have_it = *listener < 0 && is_unix && errno == EADDRINUSE;
  spare_listener_forget();
  if (*listener >= 0 &&
      tree_members_open(socket, tree_keys(), TREE_KEYS, shared_listener(address, *listener)))
    return TREE_HOLDER;
  close(socket);
  if (*listener < 0) return others_have_it ? TREE_OUTSIDE : TREE_HOPELESS;
  have_no_name("out of memory or descriptors");
  return TREE_HOLDER;
}

/* What comes of trying to have the port alone. */
static enum tree_role hold_without_name(struct listen_address *address, const char *why,
                                        int *listener, char *reason, size_t reason_size) {
  *listener = open_port(address, 1, reason, reason_size);
  if (*listener < 0) return TREE_HOPELESS;
  have_no_name(why);
  return TREE_HOLDER;
}

static enum tree_role enter(struct listen_address *address, int *listener, char *reason,
                            size_t reason_size) {
  struct sockaddr_un name;
  if (address->socket.generic.sa_family != AF_UNIX &&
      address->port == 0) { /* the number makes the name */
    *listener = open_port(address, 1, reason, reason_size);
    if (*listener < 0) return TREE_HOPELESS;
    if (!take_name(address, *listener)) have_no_name("its name cannot be had");
    return TREE_HOLDER;
  }
  socklen_t size = tree_name(address, &name);
  if (!size)
    return hold_without_name(address, "its name is too long", listener, reason, reason_size);
  bool has_first_user = process_owner_is(process_owner_first());
  int yields = parent_goes_first ? NAPS_FOR_PARENT
               : !has_first_user ? NAPS_FOR_ROOT
               : has_lost_holder ? NAPS_FOR_HOLDER
                                 : 0;
  for (int tries = TRIES; tries > 0 && !leaves(); tries--) {
    int socket = tree_socket();
    if (socket < 0)
      return hold_without_name(address, "no socket can be opened", listener, reason, reason_size);
    if (connect(socket, (const struct sockaddr *)&name, size) == 0) {
      char why_not[200];
      bool again;
      if (tree_membership_join(socket, &tree_address, &again, why_not, sizeof why_not))
        return TREE_MEMBER;
      close(socket);
      if (again && tries > 1) {
        nap();
        continue;
      }
      if (hold_without_name(address, why_not, listener, reason, reason_size) == TREE_HOLDER)
        return TREE_HOLDER;
      snprintf(reason, reason_size, "the address is taken: %s", why_not);
      return TREE_OUTSIDE;
    }
    bool nobody = errno == ECONNREFUSED;
    if (nobody && yields > 0) {
      yields--;
      close(socket);
      nap();
      continue;
    }
    if (nobody && bind(socket, (const struct sockaddr *)&name, size) == 0) {
      enum tree_role founded = found_tree(socket, address, listener, reason, reason_size);
      if (founded != TREE_OUTSIDE) return founded;
      if (tries == 1) return TREE_HOPELESS;
      nap();
      continue;
    }
    int error = errno;
    nobody = nobody && error == EADDRINUSE;
    close(socket);
    if (!nobody && error != EAGAIN)
      return hold_without_name(address, "its name cannot be had", listener, reason, reason_size);
    nap();
  }
  snprintf(reason, reason_size, "the processes that share the port cannot agree on who holds it");
  return TREE_OUTSIDE;
}

enum tree_role process_tree_enter(struct listen_address *address, int *listener,
                                  bool (*give_up)(void), char *reason, size_t reason_size) {
  tree_keys_make();
  *listener = -1;
  nameless = false;
  wanted_away = give_up;
  is_leaving = false;
  tree_membership_begin(leaves);
  tree_address = *address;
  enum tree_role result = enter(address, listener, reason, reason_size);
  tree_address = *address;
  parent_goes_first = has_lost_holder = false;
  if (result == TREE_HOLDER || result == TREE_MEMBER) tree_membership_is_inside();
  bool has_tried = result == TREE_HOLDER || result == TREE_MEMBER || !is_leaving;
  was_inside = was_inside || (has_tried && result != TREE_HOPELESS);
  /* others may have it, and go again */
  if (result == TREE_HOPELESS && (was_inside || !has_tried)) result = TREE_OUTSIDE;
  atomic_store_explicit(&role, result, memory_order_release);
  return result;
}

const char *process_tree_fault(void) {
  return process_tree_role() == TREE_HOLDER && atomic_load_explicit(&nameless, memory_order_acquire)
             ? fault
             : NULL;
}

int process_tree_event(void) {
  return process_tree_role() == TREE_MEMBER ? tree_membership_event() : tree_members_event();
}

static bool lose_holder(void) {
  tree_membership_end();
  has_lost_holder = true;
  atomic_store_explicit(&role, TREE_OUTSIDE, memory_order_release);
  return false;
}

/* Another process is to have the port, and comes first. */
static bool give_way(void) {
  log_event("another process takes the port over");
  tree_members_close();
  atomic_store_explicit(&role, TREE_OUTSIDE, memory_order_release);
  parent_goes_first = true;
  return false;
}

void process_tree_look(void) {
  tree_members_look();
  spare_listener_look();
}

bool process_tree_handle(void) {
  if (process_tree_role() != TREE_MEMBER) {
    tree_members_handle();
    return !tree_members_are_to_give_way() || give_way();
  }
  return tree_membership_handle() || lose_holder();
}

void process_tree_leave(void) {
  if (process_tree_role() == TREE_MEMBER) tree_membership_end();
  tree_members_close();
  spare_listener_forget();
  kinship_forget();
  atomic_store_explicit(&role, TREE_OUTSIDE, memory_order_release);
}

void process_tree_retry(int listener) {
  if (!process_tree_fault() || !take_name(&tree_address, listener)) return;
  log_event("other processes can share this port now");
  atomic_store_explicit(&nameless, false, memory_order_relaxed);
}
