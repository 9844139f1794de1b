/* The keys by which processes know their kin: who holds one of them descends by fork from the same
 * process, whatever its user is by now. fork leaves them in a child's memory; exec loses them
 * (tree_kinship.h). Context: the admin thread, unless it says otherwise; locks: none. */
#ifndef AGENT_TREE_KEYS_H
#define AGENT_TREE_KEYS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { TREE_KEY_SIZE = 16 };

struct tree_key {
  uint8_t bytes[TREE_KEY_SIZE]; /* all zero: none */
};

bool tree_key_is_set(const struct tree_key *key);
bool tree_key_equals(const struct tree_key *a, const struct tree_key *b);

/* This process's keys. The first: its own, made before its first fork or inherited by one. The
 * second: the tree's, once the holder has told it. */
enum { TREE_KEYS = 2 };
const struct tree_key *tree_keys(void);
/* Makes the first, once. Context: admin thread; host thread before fork. */
void tree_keys_make(void);
void tree_keys_learn(const struct tree_key *of_tree);
/* Whether it is one of them. */
bool tree_keys_know(const struct tree_key *key);
/* Whether a process of that user, if it is trusted, may be shown this one's. */
bool tree_keys_may_show(uid_t user);

#endif
