/* What the processes that share a port say to each other, over one SOCK_SEQPACKET connection
 * between the holder and each member. Both ends run the same build or refuse each other. Context:
 * agent threads. */
#ifndef AGENT_TREE_MESSAGE_H
#define AGENT_TREE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/http/client_access.h"
#include "agent/http/connection_inbox.h"
#include "process_entry.h"
#include "tree_keys.h"

enum { TREE_PROTOCOL = 6 };

enum tree_message_kind {
  TREE_HELLO = 1, /* member: pid; the key if it trusts the holder; the number of a token that the
                     holder has made (tree_kinship.h), if it has one */
  TREE_WELCOME, /* holder: the tree's key, and the same for the member. With one descriptor: a
                   token for the member, of that number, or (number 0) a unix address's
                   listening socket */
  TREE_REFUSED, /* holder; then it closes */
  TREE_ENTRY_WANTED, /* holder */
  TREE_ENTRY, /* member */
  TREE_CONNECTION, /* holder: with one descriptor */
  TREE_TAKEN, /* member: it has that connection, and will answer */
  TREE_GIVE_WAY /* member of root's: it knows the holder for kin, but will not be led by that
                   user: it wants the port itself, and closes */
};

struct tree_message {
  uint32_t protocol; /* TREE_PROTOCOL */
  uint32_t size; /* of the whole message, as this build knows it */
  uint32_t kind;
  uint32_t round; /* TREE_ENTRY_WANTED, TREE_ENTRY; TREE_CONNECTION, TREE_TAKEN: the number of the
                     connection */
  union {
    struct {
      int32_t pid; /* as the member sees itself */
      struct tree_key key;
      uint64_t token; /* 0: none */
    } hello; /* and welcome */
    struct {
      struct process_entry entry;
      struct process_audience audience;
    };
    struct {
      uint8_t authenticated, prefix_size;
      char prefix[INBOX_PREFIX_MAX];
    } connection;
  };
};

/* Sends a message of that kind (the header is filled in here), with a descriptor or -1. False:
 * errno says why; EAGAIN: the other side does not read. */
bool tree_message_send(int socket, enum tree_message_kind kind, struct tree_message *message,
                       int descriptor);

/* 1: a message; 0: none is waiting; -1: the other side is gone, or speaks something else. No
 * descriptor is taken, for the receiver would have to close it: what that does its file decides
 * (FUSE's waits for its owner's daemon, and cannot be killed meanwhile). */
int tree_message_receive(int socket, struct tree_message *message);

/* The same on a socket where SO_PASSCRED is on, from users of whom may_give says so with the
 * descriptor that came, or -1. *sender: the real user that the sender was when it sent; it stays as
 * it is where the kernel does not tell. */
int tree_message_receive_from(int socket, struct tree_message *message, uint32_t *sender,
                              bool (*may_give)(uid_t sender), int *descriptor);

/* No descriptor can be sent to that socket, nor to those that it accepts, where the kernel (6.16)
 * can be told so; or it can again. What was sent and never taken is closed with the socket. */
void tree_message_refuse_descriptors(int socket, bool refuse);

#endif
