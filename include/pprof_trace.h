/* A program's own marks in the traces that libpprofagent records: instants, and regions that nest.
 *
 *     #include "pprof_trace.h"
 *
 *     pprof_trace_begin("compile");
 *     pprof_trace_mark("half of it");
 *     pprof_trace_end();
 *
 * This header is all that is needed: there is nothing to link with. Without the agent in the
 * process the functions are not there, and a mark costs a test of a pointer; with it, while nobody
 * records, a call more. While somebody records, a mark has the thread, the time, the caller's stack
 * and a copy of the name's first 79 bytes. A region ends with the next pprof_trace_end() of the
 * same thread that is not another region's within it. NULL is as an empty name.
 *
 * They may be called anywhere, in signal handlers too. Programs that are linked with -no-pie are to
 * be compiled with -fPIE all the same: else the linker takes the functions for absent. */
#ifndef PPROF_TRACE_H
#define PPROF_TRACE_H

#ifdef __cplusplus
extern "C" {
#endif

void pprof_trace_mark(const char *name) __attribute__((weak));
void pprof_trace_begin(const char *name) __attribute__((weak));
void pprof_trace_end(void) __attribute__((weak));

#ifdef __cplusplus
}
#endif

#define pprof_trace_mark(name) (pprof_trace_mark ? (pprof_trace_mark)(name) : (void)0)
#define pprof_trace_begin(name) (pprof_trace_begin ? (pprof_trace_begin)(name) : (void)0)
#define pprof_trace_end() (pprof_trace_end ? (pprof_trace_end)() : (void)0)

#endif
