/* What the distribution's libzstd.a refers to weakly and expects a program to define if it wants to trace. Left undefined, the
 * dynamic linker would bind these to a host's own. Context: agent threads; locks: none. */
unsigned long long ZSTD_trace_decompress_begin(const void *context);
void ZSTD_trace_decompress_end(unsigned long long trace, const void *event);

unsigned long long ZSTD_trace_decompress_begin(const void *context) { return (void)context, 0; } /* 0: do not trace */
void ZSTD_trace_decompress_end(unsigned long long trace, const void *event) { (void)trace, (void)event; }
