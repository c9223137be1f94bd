/* refuse.h: one call of the system fails, for tests of what happens then.
 *
 *     for (unsigned n = 1;; n++) {          every piece of memory is refused once
 *         refuse("memory", n, ENOMEM);
 *         thing *made = thing_new();
 *         if (!refused())
 *             break;                        there is no n-th: it was made whole
 *         assert(!made);
 *     }
 *
 * Every C test is linked with it: native/run.py gives the linker the list of what it stands before. Only the
 * calling thread is touched.
 */
#ifndef REFUSE_H
#define REFUSE_H

/* The n-th call of `what` from now on fails with `error` (0: it returns 0 and does nothing); what was asked for
 * before is forgotten. "memory" is malloc, calloc, realloc and mmap together; the rest go by their own names. */
void refuse(const char *what, unsigned nth, int error);

/* How often it has failed (0 or 1). From then on nothing fails. */
int refused(void);

#endif
