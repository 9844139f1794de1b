/* process_tree.h and tls_front.h of a process that shares its port with those that a test names. */
#ifndef TEST_STUB_PROCESS_TREE_H
#define TEST_STUB_PROCESS_TREE_H

#include "agent/tree/process_tree.h"

struct stub_process_tree {
  enum tree_role role;
  struct process_entry entries[8];
  size_t count; /* 0: process_tree_list has no memory */
  unsigned refused;
  const char *refusal, *tls_address, *tls_off_reason;
  const char *fault;
  unsigned lists; /* how often process_tree_list was called */
};
extern struct stub_process_tree stub_process_tree;

#endif
