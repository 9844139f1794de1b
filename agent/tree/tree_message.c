#include "tree_message.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

bool tree_message_send(int socket, enum tree_message_kind kind, struct tree_message *message,
                       int descriptor) {
  message->protocol = TREE_PROTOCOL;
  message->size = sizeof *message;
  message->kind = kind;
  bool is_entry = kind == TREE_ENTRY;
  struct iovec bytes = {
      message, is_entry ? sizeof *message
                        : offsetof(struct tree_message, connection) + sizeof message->connection};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control;
  struct msghdr head = {.msg_iov = &bytes, .msg_iovlen = 1};
  if (descriptor >= 0) {
    memset(&control, 0, sizeof control);
    head.msg_control = &control;
    head.msg_controllen = sizeof control;
    control.header = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
  }
  return sendmsg(socket, &head, MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
}

/* More than one was sent: no message of ours. */
static int only_descriptor(struct msghdr *head) {
  int found = -1;
  for (struct cmsghdr *part = CMSG_FIRSTHDR(head); part; part = CMSG_NXTHDR(head, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    for (size_t at = 0; CMSG_LEN(at + sizeof(int)) <= part->cmsg_len; at += sizeof(int)) {
      if (found >= 0) close(found);
      memcpy(&found, CMSG_DATA(part) + at, sizeof found);
      const struct linger none = {0}; /* a sender's would make us wait when it is closed */
      setsockopt(found, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    }
  }
  return found;
}

static void find_sender(struct msghdr *head, uint32_t *uid) {
  for (struct cmsghdr *part = CMSG_FIRSTHDR(head); part; part = CMSG_NXTHDR(head, part)) {
    struct ucred sender;
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_CREDENTIALS) continue;
    memcpy(&sender, CMSG_DATA(part), sizeof sender);
    if (sender.pid != 0) *uid = sender.uid; /* else it was sent before SO_PASSCRED was on */
  }
}

union control {
  struct cmsghdr header;
  char space[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
};

/* Who has sent the next message. There is room for that alone, which the kernel puts first. */
static ssize_t look_at_sender(int socket, uint32_t *sender) {
  union control control;
  char byte;
  struct iovec bytes = {&byte, sizeof byte};
  struct msghdr head = {.msg_iov = &bytes,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = CMSG_LEN(sizeof(struct ucred))};
  ssize_t size = recvmsg(socket, &head, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size > 0) find_sender(&head, sender);
  return size;
}

static bool is_ours(const struct tree_message *message, ssize_t size, int flags) {
  const ssize_t least = offsetof(struct tree_message, connection) + sizeof message->connection;
  return size >= least && message->protocol == TREE_PROTOCOL && message->size == sizeof *message &&
         !(flags & MSG_TRUNC) && (message->kind != TREE_ENTRY || size == sizeof *message);
}

/* descriptor: NULL, and none is taken. */
static int receive(int socket, struct tree_message *message, int *descriptor) {
  union control control;
  struct iovec bytes = {message, sizeof *message};
  struct msghdr head = {.msg_iov = &bytes,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = descriptor ? sizeof control : 0};
  memset(message, 0, sizeof *message);
  ssize_t size = recvmsg(socket, &head, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
  if (size > 0 && descriptor) *descriptor = only_descriptor(&head);
  if (is_ours(message, size, head.msg_flags)) return 1;
  if (descriptor && *descriptor >= 0) close(*descriptor);
  if (descriptor) *descriptor = -1;
  return -1;
}

int tree_message_receive(int socket, struct tree_message *message) {
  return receive(socket, message, NULL);
}

int tree_message_receive_from(int socket, struct tree_message *message, uint32_t *sender,
                              bool (*may_give)(uid_t sender), int *descriptor) {
  *descriptor = -1;
  if (look_at_sender(socket, sender) < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
  return receive(socket, message, may_give(*sender) ? descriptor : NULL);
}

void tree_message_refuse_descriptors(int socket, bool refuse) {
#ifndef SO_PASSRIGHTS
  enum { SO_PASSRIGHTS = 83 };
#endif
  const int pass = !refuse;
  setsockopt(socket, SOL_SOCKET, SO_PASSRIGHTS, &pass, sizeof pass);
}
