/* The lock between one packet thread and the control side.
 *
 * Everything that two threads touch lies in a `struct side` (tables.h), one for each direction, and each of them is only read
 * or written by a thread inside its gate. The TX thread enters the outbound side's gate only, the RX thread the inbound
 * side's only, so the two never meet: no SA is used in both directions. The control side enters one gate at a time, so there
 * is no order to get wrong. A packet thread is inside while it works on a batch in memory and outside while it waits for, reads
 * or writes packets. Hence
 *   - an SA that the control side has unlinked inside the gate is in nobody's hands when it leaves, and is freed at once;
 *   - a sequence number (the IV) is taken by one thread at a time;
 *   - a new policy list is seen by whole batches: a packet finds the old SA or the new one, never none.
 * What else there is belongs to one thread (buffers, coalescer, struct net), does not change once the threads run (struct
 * engine, the chosen AEAD library and its function table), or is atomic (struct engine's failure, work and last_bulk). An SA's
 * AEAD context is used inside its side's gate only. native/fuzz/threads.c runs all of it under ThreadSanitizer.
 * Two mutexes make it fair: whoever waits for the door holds the turn, so the packet thread cannot slip in again before. */
#ifndef PHX_GATE_H
#define PHX_GATE_H

#include <pthread.h>

struct gate {
    pthread_mutex_t turn, door;
};

static inline void gate_init(struct gate *gate) {
    pthread_mutex_init(&gate->turn, NULL);
    pthread_mutex_init(&gate->door, NULL);
}

static inline void gate_enter(struct gate *gate) {
    pthread_mutex_lock(&gate->turn);
    pthread_mutex_lock(&gate->door);
    pthread_mutex_unlock(&gate->turn);
}

static inline void gate_leave(struct gate *gate) { pthread_mutex_unlock(&gate->door); }

#endif
