/* The distribution's libzstd.a refers to these weakly, for programs that trace. Left undefined,
 * they would be bound to a host's own. Context: agent threads; locks: none. */
unsigned long long ZSTD_trace_decompress_begin(const void *context);
void ZSTD_trace_decompress_end(unsigned long long trace, const void *event);

unsigned long long ZSTD_trace_decompress_begin(const void *context) {
  (void)context;
  return 0; /* do not trace */
}

void ZSTD_trace_decompress_end(unsigned long long trace, const void *event) {
  (void)trace;
  (void)event;
}
