/* Writes the profiles that are asked for, each to its file, and keeps no more files than it may.
 * Context: the thread that dumps, one at a time; locks: those of what is read. */
#ifndef AGENT_DUMP_WRITER_H
#define AGENT_DUMP_WRITER_H

#include <stdbool.h>
#include <stdint.h>

/* kinds: bits, as dump_config.kinds. wanted: false: stop, the agent is sent away; nothing is lost
 * by that. */
void dump_write_profiles(uint32_t kinds, bool (*wanted)(void));

/* The process ends as soon as this is done (is_last), or at any moment. So the profiles that are
 * asked for are written without names first, and not synced to the disk; then written() is called
 * (NULL: nobody waits); then they are written again with the program's names and with all, as long
 * as there is time for it. */
void dump_write_in_haste(bool is_last, void (*written)(void), bool (*has_time)(void));

#endif
