/* Called through a stub of the procedure linkage table by cpu_leafs.c. */
void library_nothing(void);
void library_nothing(void) { __asm__ volatile(""); }
