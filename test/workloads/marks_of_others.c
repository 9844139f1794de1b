/* A library that has functions of its own by the names of include/pprof_trace.h, and with -DPROGRAM
 * a program that calls them. */
#include <stdio.h>

#ifdef PROGRAM
void pprof_trace_mark(const char *name);
void pprof_trace_begin(const char *name);
void pprof_trace_end(void);

int main(void) {
  pprof_trace_mark("mark");
  pprof_trace_begin("begin");
  pprof_trace_end();
  return 0;
}
#else
void pprof_trace_mark(const char *name) { puts(name); }
void pprof_trace_begin(const char *name) { puts(name); }
void pprof_trace_end(void) { puts("end"); }
#endif
