/* What this build of libbacktrace offers. */
#define BACKTRACE_SUPPORTED 1
#define BACKTRACE_USES_MALLOC 0
#define BACKTRACE_SUPPORTS_THREADS 0
#define BACKTRACE_SUPPORTS_DATA 0
