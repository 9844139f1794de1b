/* The agent's log: nothing unless PPROFAGENT_LOG asks for it; one line an event, one write() a line.
 * Context: agent threads; locks: none. */
#ifndef AGENT_LOG_H
#define AGENT_LOG_H

/* destination: config.log: "" (off), "stderr" or a file, which is created or appended to. */
void log_open(const char *destination);
void log_close(void);

__attribute__((format(printf, 1, 2))) void log_event(const char *format, ...);

#endif
