#include "process_tree.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "agent/runtime/agent_inherited.h"
#include "agent/runtime/agent_status.h"
#include "agent/http/client_access.h"
#include "agent/http/connection_gate.h"
#include "agent/runtime/log.h"
#include "agent/http/process_owner.h"
#include "agent/http/refused_connection.h"
#include "tree_kinship.h"
#include "tree_members.h"

enum {
  TRIES = 100,
  NAP_NANOSECONDS = 5000000, /* another process is about to be the holder */
  PORT_TRIES = 60, /* the last holder's port may be closed a moment after its name */
  ANSWER_MILLISECONDS = 300, /* in all: one that has the name may close late again and again */
  PIECE_MILLISECONDS = 5,
  /* Naps of those that let others have the port. A process that gave up its user: what root starts
     later can join only root's. */
  NAPS_FOR_ROOT = 6,
  NAPS_FOR_PARENT = 20, /* a child forked before its parent was in */
  NAPS_FOR_HOLDER = 1 /* it may be back at once (agent_absence.c) */
};

/* The first: this process's own, made before its first fork or inherited by one. The second: the
 * tree's, once the holder has told it. */
static struct tree_key keys[2] AGENT_INHERITED;

enum { KEY_NONE, KEY_BEING_MADE, KEY_MADE };
static _Atomic int key_state
    AGENT_INHERITED; /* a thread that forks, or the admin thread, moves it on */

static _Atomic int role; /* enum tree_role; written by the admin thread */
static _Atomic bool
    nameless; /* holds the port, but not the tree's name; written by the admin thread */
static char fault[200]; /* why; written before that and before the role */
/* Admin thread only. */
static int connection; /* a member's, to the holder */
static struct listen_address tree_address;
static bool parent_goes_first; /* written before the thread starts */
static bool has_lost_holder; /* and may yet find it again */
static bool (*wanted_away)(void); /* this and the next two: while it enters */
static bool is_leaving;
static int answer_left; /* of ANSWER_MILLISECONDS */
static bool was_inside; /* ever; or has met one who holds the port */
static uid_t holder_uid; /* when it last said something */
static pid_t asked_pid; /* whom it has asked to give way, since it was outside; 0: nobody */
static bool has_spare;
static int spare_listener; /* a member's, for when it is the holder; see keep_spare */
static struct stat spare_file; /* st_ino 0: its path is out of sight here */

enum tree_role process_tree_role(void) {
  return (enum tree_role)atomic_load_explicit(&role, memory_order_acquire);
}

static bool holds_port(void) { return process_tree_role() == TREE_HOLDER; }

const struct other_processes process_tree_as_others = {.can_be_asked = holds_port,
                                                       .hand_over = tree_members_hand_over,
                                                       .would_answer = tree_members_would_answer};

const char *process_tree_off_reason(char out[SHARED_TEXT_MAX]) {
  if (process_tree_role() == TREE_HOLDER || process_tree_role() == TREE_MEMBER) return NULL;
  return *agent_status_off(out) ? out : "not started yet";
}

static void nap(long nanoseconds) {
  struct timespec pause = {.tv_nsec = nanoseconds};
  nanosleep(&pause, NULL);
}

/* Before each wait, all of which are short. */
static bool leaves(void) { return is_leaving = is_leaving || wanted_away(); }

void process_tree_make_key(void) {
  if (atomic_load_explicit(&key_state, memory_order_acquire) == KEY_MADE) return;
  sigset_t all, mask;
  memset(&all, ~0, sizeof all);
  pthread_sigmask(
      SIG_SETMASK, &all,
      &mask); /* a handler that forks would wait for the thread that it has interrupted */
  int before = KEY_NONE;
  if (atomic_compare_exchange_strong_explicit(&key_state, &before, KEY_BEING_MADE,
                                              memory_order_acquire, memory_order_acquire)) {
    /* By number: libc's wrapper is a cancellation point. */
    if (syscall(SYS_getrandom, &keys[0], sizeof keys[0], GRND_NONBLOCK) != sizeof keys[0])
      memset(&keys[0], 0, sizeof keys[0]);
    atomic_store_explicit(&key_state, KEY_MADE, memory_order_release);
  }
  pthread_sigmask(SIG_SETMASK, &mask, NULL);
  /* Bounded: a raw clone may have left the maker behind. */
  for (int naps = 0;
       naps < 100 && atomic_load_explicit(&key_state, memory_order_acquire) != KEY_MADE; naps++)
    nap(100 * 1000);
}

void process_tree_let_parent_go_first(void) { parent_goes_first = true; }

/* Whoever now shares the user that this process has taken on could ask for the key, and be root's
 * holder with it. */
bool process_tree_may_show_key(uid_t user) {
  return user == 0 || (user == process_owner_first() && process_owner_may_look(user));
}

bool process_tree_may_give_listener(uid_t user) {
  return user == 0 || user == process_owner_first();
}

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

static int failed(char *reason, size_t reason_size, const char *format, int pid, unsigned uid) {
  snprintf(reason, reason_size, format, pid, uid);
  return -1;
}

static void forget_spare(void) {
  if (has_spare) close(spare_listener);
  has_spare = false;
}

/* The listening socket of a unix address, which members of root's and of the first user's are given
 * (process_tree_may_give_listener): who takes over may see another root directory or mount
 * namespace than who bound the path, and the file stays the same. descriptor: what came with the
 * welcome, or -1. */
static void keep_spare(int descriptor) {
  int listens = 0;
  socklen_t size = sizeof listens;
  bool is_wanted = descriptor >= 0 && tree_address.socket.generic.sa_family == AF_UNIX &&
                   getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 &&
                   listens;
  forget_spare();
  has_spare = is_wanted;
  if (is_wanted) spare_listener = descriptor;
  else if (descriptor >= 0) close(descriptor);
  if (is_wanted && lstat(tree_address.socket.local.sun_path, &spare_file) != 0)
    spare_file.st_ino = 0;
}

/* Somebody has removed the file: nobody could come in by that socket. */
static bool spare_has_lost_its_file(void) {
  struct stat now;
  return spare_file.st_ino &&
         (lstat(tree_address.socket.local.sun_path, &now) != 0 || now.st_ino != spare_file.st_ino);
}

static int take_spare(void) {
  has_spare = false;
  return spare_listener;
}

static bool is_known_key(const struct tree_key *key) {
  static const struct tree_key none;
  return memcmp(key, &none, sizeof none) != 0 &&
         (memcmp(key, &keys[0], sizeof none) == 0 || memcmp(key, &keys[1], sizeof none) == 0);
}

/* What the holder answers to this process's introduction. *ended: it was about to end. */
static int hear_welcome(int socket, struct tree_message *message, int *descriptor, bool *ended) {
  struct pollfd wait = {.fd = socket, .events = POLLIN};
  int ready = 0;
  while (ready == 0 && answer_left > 0 && !leaves()) {
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
static int introduce(int socket, const struct ucred *holder, bool *again, char *reason,
                     size_t reason_size) {
  bool trusted = client_access_shares(holder->uid);
  struct tree_message message = {
      .hello = {.pid = getpid(), .token = kinship_kept_of(holder->pid, holder->uid)}};
  int descriptor = -1;
  holder_uid = holder->uid;
  if (trusted) tree_message_refuse_descriptors(socket, false);
  if (trusted && process_tree_may_show_key(holder->uid)) message.hello.key = keys[0];
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
  bool known = is_known_key(&message.hello.key);
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
  keep_spare(is_token ? -1 : descriptor);
  if (known || holder->uid == 0) keys[1] = message.hello.key;
  return 0;
}

/* For `pprofagent ps`, which finds in /proc/net/unix what this process shares. Without it all else
 * works. */
static void name_membership(int socket) {
  char text[160];
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  listen_address_format(&tree_address, text, sizeof text);
  int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "pprofagent/%s/%d", text,
                        (int)getpid());
  if (length > 0 && (size_t)length < sizeof name.sun_path - 1)
    bind(socket, (const struct sockaddr *)&name,
         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length));
}

/* The tree's name is taken: becomes a member. */
static enum tree_role join_tree(int socket, bool *again, char *reason, size_t reason_size) {
  struct ucred holder;
  socklen_t size = sizeof holder;
  const int on = 1;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &holder, &size) != 0)
    holder = (struct ucred){.uid = (uid_t)-1};
  name_membership(socket); /* before the next, with which the kernel would choose a name */
  *again = false;
  if (setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
      introduce(socket, &holder, again, reason, reason_size) != 0)
    return TREE_OUTSIDE;
  connection = socket;
  log_event("sharing the port that process %d holds", (int)holder.pid);
  return TREE_MEMBER;
}

static int open_port(struct listen_address *address, unsigned tries, char *reason,
                     size_t reason_size) {
  for (;;) {
    struct listen_address attempt = *address;
    int listener = listen_address_open(&attempt, reason, reason_size);
    if (listener >= 0) *address = attempt;
    if (listener >= 0 || errno != EADDRINUSE || --tries == 0 || leaves()) return listener;
    nap(NAP_NANOSECONDS);
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
      tree_members_open(socket, keys, 2, shared_listener(address, listener)))
    return true;
  if (socket >= 0) close(socket);
  return false;
}

/* This process has the name: founds the tree, or goes on with it. TREE_OUTSIDE: those who have a
 * unix address's listening socket are about to do so. */
static enum tree_role found_tree(int socket, struct listen_address *address, int *listener,
                                 char *reason, size_t reason_size) {
  bool is_unix = address->socket.generic.sa_family == AF_UNIX;
  bool use_spare = has_spare && !spare_has_lost_its_file();
  *listener =
      use_spare ? take_spare() : open_port(address, is_unix ? 1 : PORT_TRIES, reason, reason_size);
  bool others_have_it = *listener < 0 && is_unix && errno == EADDRINUSE;
  forget_spare();
  if (*listener >= 0 && tree_members_open(socket, keys, 2, shared_listener(address, *listener)))
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
      if (join_tree(socket, &again, why_not, sizeof why_not) == TREE_MEMBER) return TREE_MEMBER;
      close(socket);
      if (again && tries > 1) {
        nap(NAP_NANOSECONDS);
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
      nap(NAP_NANOSECONDS);
      continue;
    }
    if (nobody && bind(socket, (const struct sockaddr *)&name, size) == 0) {
      enum tree_role founded = found_tree(socket, address, listener, reason, reason_size);
      if (founded != TREE_OUTSIDE) return founded;
      if (tries == 1) return TREE_HOPELESS;
      nap(NAP_NANOSECONDS);
      continue;
    }
    int error = errno;
    nobody = nobody && error == EADDRINUSE;
    close(socket);
    if (!nobody && error != EAGAIN)
      return hold_without_name(address, "its name cannot be had", listener, reason, reason_size);
    nap(NAP_NANOSECONDS);
  }
  snprintf(reason, reason_size, "the processes that share the port cannot agree on who holds it");
  return TREE_OUTSIDE;
}

enum tree_role process_tree_enter(struct listen_address *address, int *listener,
                                  bool (*give_up)(void), char *reason, size_t reason_size) {
  process_tree_make_key();
  *listener = -1;
  nameless = false;
  wanted_away = give_up;
  is_leaving = false;
  answer_left = ANSWER_MILLISECONDS;
  tree_address = *address;
  enum tree_role result = enter(address, listener, reason, reason_size);
  tree_address = *address;
  parent_goes_first = has_lost_holder = false;
  if (result == TREE_HOLDER || result == TREE_MEMBER) asked_pid = 0;
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
  return process_tree_role() == TREE_MEMBER ? connection : tree_members_event();
}

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

static bool lose_holder(void) {
  close(connection);
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
  if (has_spare && !process_owner_is(0) && !process_owner_is(process_owner_first())) forget_spare();
}

bool process_tree_handle(void) {
  if (process_tree_role() != TREE_MEMBER) {
    tree_members_handle();
    return !tree_members_are_to_give_way() || give_way();
  }
  for (;;) {
    struct tree_message message;
    int descriptor, received = tree_message_receive_from(connection, &message, &holder_uid,
                                                         client_access_shares, &descriptor);
    if (received == 0) return true;
    if (received < 0 || !client_access_shares(holder_uid)) {
      if (descriptor >= 0) close(descriptor);
      return lose_holder();
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

void process_tree_leave(void) {
  if (process_tree_role() == TREE_MEMBER) close(connection);
  tree_members_close();
  forget_spare();
  kinship_forget();
  atomic_store_explicit(&role, TREE_OUTSIDE, memory_order_release);
}

void process_tree_retry(int listener) {
  if (!process_tree_fault() || !take_name(&tree_address, listener)) return;
  log_event("other processes can share this port now");
  atomic_store_explicit(&nameless, false, memory_order_relaxed);
}
