/* A request of our own to a process that shares the port, in the name of a client whose request is
 * being answered: it gets what that client would get. Context: HTTP workers; locks: none. */
#ifndef AGENT_PROCESS_QUESTION_H
#define AGENT_PROCESS_QUESTION_H

struct http_response;

/* target: path and query; host: the client's own Host header, which each process judges. Returns a
 * non-blocking descriptor from which the answer can be read, as HTTP/1.0, up to its end; closing it
 * takes the question back. -1: *why is one sentence. */
int process_question_ask(struct http_response *response, int pid, const char *target,
                         const char *host, const char **why);

#endif
