/* The agent's log: nothing unless PPROFAGENT_LOG asks for it; one line an event, one write() a
 * line, no more than LOG_LINES_AT_ONCE together and one a second in the long run. What a client
 * sent never goes into it.
 * Context: agent threads, unless it says otherwise; locks: none. */
#ifndef AGENT_LOG_H
#define AGENT_LOG_H

#include <stdint.h>

enum { LOG_LINES_AT_ONCE = 100 };

/* destination: config.log: "" (off), "stderr" or a file, which is created or appended to
 * (trusted_path.h says which is not). */
void log_open(const char *destination);
void log_close(void);

/* Why the file is not written; NULL: it is, or none is wanted. text: SHARED_TEXT_MAX bytes. */
const char *log_fault(char *text);

/* Lines that were too many. */
uint64_t log_lines_left_out(void);

/* One event while the log is not open. Context: a host thread: no descriptor stays open, no signal
 * is raised, errno is kept. */
__attribute__((format(printf, 2, 3))) void log_single_event(const char *destination,
                                                            const char *format, ...);

__attribute__((format(printf, 1, 2))) void log_event(const char *format, ...);

/* A library's message whose arguments may be what a client sent: only its own words are kept. */
void log_words_of(const char *format);

#endif
