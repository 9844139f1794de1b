/* Who may ask: the process's own user, root, and those that PPROFAGENT_ALLOW_UIDS names. The kernel says who owns the other end of a
 * loopback connection (sock_diag(7), else /proc/net/tcp) or of a unix socket (SO_PEERCRED).
 * Context: agent threads; locks: none.
 */
#ifndef AGENT_CLIENT_ACCESS_H
#define AGENT_CLIENT_ACCESS_H

#include <stdbool.h>
#include <sys/types.h>

enum { CLIENT_ACCESS_TEXT_MAX = 256 };

/* Whether a user may connect or join: own (effective or real) uid, root, PPROFAGENT_ALLOW_UIDS. */
bool client_access_uid(uid_t uid);

/* False: text (one sentence, no newline) is for the body of a 403. */
bool client_access_check(int descriptor, char text[CLIENT_ACCESS_TEXT_MAX]);

#endif
