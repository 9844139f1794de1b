#include "tree_message.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

bool tree_message_send(int socket, enum tree_message_kind kind, struct tree_message *message, int descriptor) {
  message->protocol = TREE_PROTOCOL;
  message->size = sizeof *message;
  message->kind = kind;
  bool is_entry = kind == TREE_ENTRY;
  struct iovec bytes = {message, is_entry ? sizeof *message : offsetof(struct tree_message, connection) + sizeof message->connection};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control;
  struct msghdr head = {.msg_iov = &bytes, .msg_iovlen = 1};
  if (descriptor >= 0) {
    memset(&control, 0, sizeof control);
    head.msg_control = &control;
    head.msg_controllen = sizeof control;
    control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
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

int tree_message_receive(int socket, struct tree_message *message, int *descriptor) {
  uint32_t ignored;
  return tree_message_receive_from(socket, message, descriptor, &ignored);
}

int tree_message_receive_from(int socket, struct tree_message *message, int *descriptor,
                              uint32_t *uid) {
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
  } control;
  struct iovec bytes = {message, sizeof *message};
  struct msghdr head = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  *descriptor = -1;
  memset(message, 0, sizeof *message);
  ssize_t size = recvmsg(socket, &head, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
  if (size > 0) *descriptor = only_descriptor(&head);
  if (size > 0) find_sender(&head, uid);
  bool is_ours = size >= (ssize_t)(offsetof(struct tree_message, connection) + sizeof message->connection) && message->protocol == TREE_PROTOCOL &&
                 message->size == sizeof *message && !(head.msg_flags & MSG_TRUNC) && (message->kind != TREE_ENTRY || size == sizeof *message);
  if (is_ours) return 1;
  if (*descriptor >= 0) close(*descriptor);
  *descriptor = -1;
  return -1;
}
