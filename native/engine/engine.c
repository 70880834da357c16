#include "engine.h"

#include "net.h"
#include "tun.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Room for the largest IPv4 packet, which a raw socket delivers reassembled, and for the headers of what a TUN gives. */
enum { SLOT = 65536 + 256 };

struct engine {
    struct side *sides[2]; /* by enum sa_direction */
    int tun, raw, event;   /* set before the threads start */
    atomic_int failure;
};

size_t phx_size(int structure) {
    static const size_t SIZES[] = {sizeof(struct sa_config), sizeof(struct sa_usage), sizeof(struct policy),
                                   sizeof(struct flow)};
    return structure >= 0 && structure < (int)(sizeof SIZES / sizeof *SIZES) ? SIZES[structure] : 0;
}

const char *phx_aead(const char *name) { return aead_choose(name); }

struct engine *phx_new(void) {
    if (!aead_is_chosen() && aead_choose(NULL) == NULL)
        return NULL;
    struct engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return NULL;
    engine->sides[SA_IN] = side_new();
    engine->sides[SA_OUT] = side_new();
    if (engine->sides[SA_IN] == NULL || engine->sides[SA_OUT] == NULL) {
        phx_free(engine);
        return NULL;
    }
    return engine;
}

void phx_free(struct engine *engine) {
    for (int i = 0; i < 2; i++)
        if (engine->sides[i] != NULL)
            side_free(engine->sides[i]);
    free(engine);
}

static uint64_t seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return (uint64_t)now.tv_sec;
}

static void notify(struct engine *engine) {
    uint64_t one = 1;
    ssize_t ignored = write(engine->event, &one, sizeof one); /* an eventfd at its maximum is readable anyway */
    (void)ignored;
}

static void *give_up(struct engine *engine, int error) {
    int none = 0;
    atomic_compare_exchange_strong(&engine->failure, &none, error);
    notify(engine);
    return NULL;
}

static bool make_batch(struct packet *batch, int count) {
    uint8_t *memory = mmap(NULL, (size_t)count * SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    for (int i = 0; i < count; i++)
        batch[i] = (struct packet){.buffer = memory + (size_t)i * SLOT, .capacity = SLOT};
    return true;
}

/* Inside the gate: whether the control side has to look, once. */
static bool take_notable(struct side *side) {
    bool notable = side->notable;
    side->notable = false;
    return notable;
}

static void *transmit(void *argument) {
    struct engine *engine = argument;
    struct side *side = engine->sides[SA_OUT];
    struct packet batch[NET_BATCH];
    struct sending sendings[NET_BATCH];
    if (!make_batch(batch, NET_BATCH))
        return give_up(engine, ENOMEM);
    for (;;) {
        int count = tun_read(engine->tun, batch, NET_BATCH), ready = 0;
        if (count < 0)
            return give_up(engine, -count);
        uint64_t now = seconds_now();
        gate_enter(&side->gate);
        for (int i = 0; i < count; i++) {
            sendings[ready].packet = &batch[i];
            if (outbound_packet(side, &batch[i], &sendings[ready].destination, now) == DELIVER)
                ready++;
        }
        bool notable = take_notable(side);
        gate_leave(&side->gate);
        if (notable)
            notify(engine);
        net_send(engine->raw, sendings, ready);
        for (int i = 0; i < ready; i++)
            if (sendings[i].error != 0)
                side_count_drop(side, sendings[i].error == EMSGSIZE ? OUT_TOO_BIG : OUT_SEND);
    }
}

static void *receive(void *argument) {
    struct engine *engine = argument;
    struct side *side = engine->sides[SA_IN];
    struct packet batch[NET_BATCH];
    enum drop verdicts[NET_BATCH];
    if (!make_batch(batch, NET_BATCH))
        return give_up(engine, ENOMEM);
    for (;;) {
        int count = net_receive(engine->raw, batch);
        if (count == -ENETDOWN)
            continue; /* said once when the device goes down; the socket lives on */
        if (count < 0)
            return give_up(engine, -count);
        uint64_t now = seconds_now();
        gate_enter(&side->gate);
        for (int i = 0; i < count; i++)
            verdicts[i] = inbound_packet(side, &batch[i], now);
        bool notable = take_notable(side);
        gate_leave(&side->gate);
        if (notable)
            notify(engine);
        for (int i = 0; i < count; i++)
            if (verdicts[i] == DELIVER && tun_write(engine->tun, &batch[i]) != 0)
                side_count_drop(side, IN_TUN);
    }
}

int phx_run(struct engine *engine, int tun, int raw, int event) {
    engine->tun = tun;
    engine->raw = raw;
    engine->event = event;
    /* Signals are the control thread's: it sleeps in a call that only a signal of its own interrupts. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    int error = pthread_create(&thread, NULL, transmit, engine);
    if (error == 0)
        error = pthread_create(&thread, NULL, receive, engine);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

int phx_failure(struct engine *engine) { return atomic_load(&engine->failure); }

static struct side *side_of(struct engine *engine, int direction) { return engine->sides[direction == SA_OUT ? SA_OUT : SA_IN]; }

int phx_sa_add(struct engine *engine, int direction, const struct sa_config *config) {
    return side_add(side_of(engine, direction), direction == SA_OUT ? SA_OUT : SA_IN, config);
}

int phx_sa_remove(struct engine *engine, int direction, uint32_t spi, uint32_t destination, struct sa_usage *last) {
    return side_remove(side_of(engine, direction), spi, (struct in_addr){destination}, last);
}

int phx_sa_usage(struct engine *engine, int direction, uint32_t spi, uint32_t destination, struct sa_usage *usage) {
    return side_usage(side_of(engine, direction), spi, (struct in_addr){destination}, usage);
}

int phx_sa_limit(struct engine *engine, int direction, uint32_t spi, uint32_t destination,
                 const struct sa_limits *limits) {
    return side_limit(side_of(engine, direction), spi, (struct in_addr){destination}, limits);
}

int phx_policies(struct engine *engine, int direction, const struct policy *policies, size_t count) {
    return side_replace_policies(side_of(engine, direction), policies, count);
}

size_t phx_wanted(struct engine *engine, struct flow *flows, size_t max) {
    return side_take_wanted(engine->sides[SA_OUT], flows, max);
}

int phx_drop_causes(void) { return DROP_CAUSES; }

const char *phx_drop_name(int cause) { return drop_name(cause); }

void phx_drops(struct engine *engine, uint64_t *counts) {
    memset(counts, 0, DROP_CAUSES * sizeof *counts);
    side_read_drops(engine->sides[SA_IN], counts);
    side_read_drops(engine->sides[SA_OUT], counts);
}

long phx_pass(struct engine *engine, int direction, const uint8_t *input, size_t length, uint8_t *output,
              size_t capacity) {
    struct side *side = side_of(engine, direction);
    size_t headroom = direction == SA_OUT ? ESP_HEADROOM : 0;
    /* As tight as it can be, so that a sanitizer sees every byte beyond. */
    size_t room = headroom + length + (direction == SA_OUT ? ESP_TAILROOM : 0);
    struct packet packet = {.buffer = malloc(room + 1), .capacity = room, .length = length};
    if (packet.buffer == NULL)
        return -OUT_TOO_BIG;
    packet.data = packet.buffer + headroom;
    memcpy(packet.data, input, length);
    struct in_addr destination;
    gate_enter(&side->gate);
    enum drop verdict = direction == SA_OUT ? outbound_packet(side, &packet, &destination, seconds_now())
                                            : inbound_packet(side, &packet, seconds_now());
    gate_leave(&side->gate);
    long result = -(long)verdict;
    if (verdict == DELIVER && packet.length <= capacity) {
        memcpy(output, packet.data, packet.length);
        result = (long)packet.length;
    }
    free(packet.buffer);
    return result;
}

int phx_gcm(int seal, const uint8_t *key, size_t key_length, const uint8_t nonce[12], const uint8_t *aad,
            size_t aad_length, uint8_t *data, size_t length, uint8_t tag[16]) {
    struct aead *aead = seal ? aead_new_seal(key, key_length) : aead_new_open(key, key_length);
    if (aead == NULL)
        return -1;
    int result = seal ? aead_seal(aead, nonce, aad, aad_length, data, data, length, tag)
                      : aead_open(aead, nonce, aad, aad_length, data, length, tag);
    aead_free(aead);
    return result;
}

struct replay *phx_replay_new(uint32_t window, uint64_t top) {
    struct replay *replay = window > 0 && window <= REPLAY_WINDOW_MAX ? malloc(sizeof *replay) : NULL;
    if (replay != NULL)
        replay_init(replay, window, top);
    return replay;
}

void phx_replay_free(struct replay *replay) { free(replay); }

int phx_replay_accept(struct replay *replay, uint64_t sequence) {
    uint64_t inferred;
    if (!replay_infer(replay, (uint32_t)sequence, &inferred) || inferred != sequence || !replay_fresh(replay, inferred))
        return 0;
    replay_mark(replay, inferred);
    return 1;
}
