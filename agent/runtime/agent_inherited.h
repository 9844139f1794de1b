/* A forked child clears what the agent's threads of its parent left half-done (agent_fork.c), but
 * not variables of this kind: layout.ld has them by their section, which is no .bss of the
 * agent's. */
#ifndef AGENT_AGENT_INHERITED_H
#define AGENT_AGENT_INHERITED_H

#define AGENT_INHERITED __attribute__((section(".sbss.agent_inherited")))

#endif
