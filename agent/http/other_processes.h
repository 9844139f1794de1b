/* The other processes that share the port, as HTTP needs them: tree/ is behind it, and agent.c puts
 * it there before anybody may connect. */
#ifndef AGENT_OTHER_PROCESSES_H
#define AGENT_OTHER_PROCESSES_H

#include <stdbool.h>
#include <stddef.h>

struct client;

enum tree_handover { TREE_HANDED_OVER, TREE_NO_SUCH_PROCESS, TREE_BUSY, TREE_SILENT, TREE_REFUSES };
enum tree_answer { TREE_WOULD_ANSWER, TREE_WOULD_NOT, TREE_ASKED, TREE_NOBODY };

struct other_processes {
  /* Whether this process holds the port, and so speaks for the others. Context: agent threads. */
  bool (*can_be_asked)(void);
  /* The request on this connection, of which `prefix` has been read, is for process pid: hands it
   * over; the caller then closes its own descriptor without shutdown. TREE_BUSY: too many wait
   * there; TREE_SILENT: it has not answered within 1.7 s (stopped). TREE_NO_SUCH_PROCESS: also one
   * that ended, or became another program, just now. TREE_REFUSES: it would not answer that client
   * (NULL: one with a certificate). Waits no longer once give_up. Context: HTTP workers. */
  enum tree_handover (*hand_over)(int pid, int descriptor, const struct client *client,
                                  const char *prefix, size_t prefix_size, bool (*give_up)(void));
  /* Whether process pid would answer that client, by what it has just said of itself. Waits for
   * nothing. TREE_ASKED: to be asked again when the tree's event says that something has come.
   * TREE_WOULD_NOT: text is for the body of a 403. Context: agent threads. */
  enum tree_answer (*would_answer)(int pid, const struct client *client, char *text);
};

/* NULL: there are none. Written by the admin thread alone, before it listens. */
extern const struct other_processes *other_processes;

#endif
