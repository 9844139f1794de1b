/* A preloaded library that does nothing: what a preload costs by itself. */
void empty_preload(void);
void empty_preload(void) {}
