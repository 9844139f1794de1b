/* A forked child clears what the agent's threads of its parent left half-done (agent_restart_in_child), but not variables of this kind. */
#ifndef AGENT_AGENT_INHERITED_H
#define AGENT_AGENT_INHERITED_H

#define AGENT_INHERITED __attribute__((section(".bss.agent_inherited")))

#endif
