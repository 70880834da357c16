#include "replay.h"

#include <string.h>

enum { WORD_BITS = 64, RING_MASK = REPLAY_RING_WORDS - 1 };

_Static_assert((REPLAY_RING_WORDS - 1) * WORD_BITS >= REPLAY_WINDOW_MAX, "the ring must hold the window and a word more");
_Static_assert((REPLAY_RING_WORDS & RING_MASK) == 0, "the mask needs a power of two");

static uint64_t *word_of(struct replay *replay, uint64_t sequence) {
    return &replay->ring[(sequence / WORD_BITS) & RING_MASK];
}

void replay_init(struct replay *replay, uint32_t window, uint64_t top) {
    memset(replay->ring, 0xff, sizeof replay->ring);
    replay->top = top;
    replay->window = window;
    /* The word that holds `top` also holds numbers that are still to come. */
    uint64_t last = top % WORD_BITS;
    *word_of(replay, top) = last == WORD_BITS - 1 ? UINT64_MAX : (UINT64_C(1) << (last + 1)) - 1;
}

bool replay_infer(const struct replay *replay, uint32_t low, uint64_t *sequence) {
    uint32_t top_low = (uint32_t)replay->top;
    uint32_t top_high = (uint32_t)(replay->top >> 32);
    uint32_t bottom = top_low - replay->window + 1; /* modulo 2^32, as in the RFC */
    uint32_t high = top_high;
    if (top_low >= replay->window - 1) { /* case A: the window lies in one 2^32 subspace */
        if (low < bottom) {
            if (top_high == UINT32_MAX)
                return false;
            high = top_high + 1;
        }
    } else if (low >= bottom) { /* case B: the window began in the subspace before */
        if (top_high == 0)
            return false;
        high = top_high - 1;
    }
    *sequence = (uint64_t)high << 32 | low;
    return true;
}

bool replay_fresh(const struct replay *replay, uint64_t sequence) {
    if (sequence == 0)
        return false;
    if (sequence > replay->top)
        return true;
    if (replay->top - sequence >= replay->window)
        return false;
    uint64_t word = replay->ring[(sequence / WORD_BITS) & RING_MASK];
    return (word >> (sequence % WORD_BITS) & 1) == 0;
}

void replay_mark(struct replay *replay, uint64_t sequence) {
    if (sequence > replay->top) {
        uint64_t entered = sequence / WORD_BITS - replay->top / WORD_BITS;
        if (entered >= REPLAY_RING_WORDS)
            memset(replay->ring, 0, sizeof replay->ring);
        else
            for (uint64_t i = 1; i <= entered; i++)
                replay->ring[(replay->top / WORD_BITS + i) & RING_MASK] = 0;
        replay->top = sequence;
    }
    *word_of(replay, sequence) |= UINT64_C(1) << (sequence % WORD_BITS);
}
