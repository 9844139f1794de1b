/* The agent's log: nothing unless PPROFAGENT_LOG asks for it; one line an event, one write() a line.
 * Context: agent threads, unless it says otherwise; locks: none. */
#ifndef AGENT_LOG_H
#define AGENT_LOG_H

/* destination: config.log: "" (off), "stderr" or a file, which is created or appended to. */
void log_open(const char *destination);
void log_close(void);

/* One event while the log is not open. Context: a host thread: no descriptor stays open, no signal is raised, errno is kept. */
__attribute__((format(printf, 2, 3))) void log_single_event(const char *destination, const char *format, ...);

__attribute__((format(printf, 1, 2))) void log_event(const char *format, ...);

#endif
