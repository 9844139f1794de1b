/* Who may ask: root, the process's owner (process_owner.h), and those that PPROFAGENT_ALLOW_UIDS
 * names. The kernel says who owns the other end of a loopback connection (sock_diag(7), else
 * /proc/net/tcp) or of a unix socket (SO_PEERCRED). Judged anew at each use: a process changes its
 * user.
 * Context: agent threads; locks: none.
 */
#ifndef AGENT_CLIENT_ACCESS_H
#define AGENT_CLIENT_ACCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shim/base/config.h"

enum { CLIENT_ACCESS_TEXT_MAX = 256 };

/* Whether a user may see this process's profiles. */
bool client_access_uid(uid_t uid);
/* Whether a user's processes may share a port with this one: the same, and the owner of a process
 * that is not dumpable. */
bool client_access_shares(uid_t uid);

/* Whose a connection is. */
struct client {
  uid_t uid;
  bool is_unix; /* an unmapped uid too may be let in: the file's mode has decided */
};
enum client_found {
  CLIENT_FOUND,
  CLIENT_UNKNOWN, /* text says why, for the body of a 403 */
  CLIENT_NO_DESCRIPTOR /* the same, but it may be found later */
};
enum client_found client_access_find(int descriptor, struct client *out,
                                     char text[CLIENT_ACCESS_TEXT_MAX]);
/* False: text (one sentence, no newline) is for the body of a 403. */
bool client_access_judge(const struct client *client, char text[CLIENT_ACCESS_TEXT_MAX]);
/* Both. */
bool client_access_check(int descriptor, char text[CLIENT_ACCESS_TEXT_MAX]);

/* Whom this process answers, for the one that holds its port and may refuse in its name. */
struct process_audience {
  uint32_t owner; /* for the text of a refusal */
  uint32_t unmapped, count; /* unmapped_user.h, as that process sees it */
  uint32_t uids[CONFIG_UIDS_MAX + 1]; /* beside root */
};
void client_access_audience(struct process_audience *out);
/* As client_access_judge, for the process whose audience it is. */
bool client_access_judge_for(const struct process_audience *audience, const struct client *client,
                             char text[CLIENT_ACCESS_TEXT_MAX]);

#endif
