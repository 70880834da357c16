#include "engine.h"

#include "net.h"
#include "receive.h"
#include "transmit.h"
#include "tun.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The largest that a TUN hands over, and what a train writes behind it. */
enum { TUN_MAX = 65536, FLUSH_BYTES = 32768 };

struct engine {
    struct side *sides[2];                     /* by enum sa_direction */
    int tun, event;                            /* set before the threads start, as is all below but the failure */
    struct net sending, receiving;             /* the same socket, for one thread each */
    int batch;
    bool udp_offload;
    atomic_int failure;
};

size_t phx_size(int structure) {
    static const size_t SIZES[] = {sizeof(struct sa_config), sizeof(struct sa_usage), sizeof(struct policy),
                                   sizeof(struct flow), sizeof(struct wiring)};
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

static void *fail(struct engine *engine, int error) {
    int none = 0;
    atomic_compare_exchange_strong(&engine->failure, &none, error);
    notify(engine);
    return NULL;
}

static void send_wire(void *context, struct sending *sendings, int count) { net_send(context, sendings, count); }

static void *run_out(void *argument) {
    struct engine *engine = argument;
    struct transmitter *transmitter = malloc(sizeof *transmitter);
    uint8_t *data = malloc(TUN_MAX + ESP_LENT);
    pthread_setname_np(pthread_self(), "esp-out");
    if (transmitter == NULL || data == NULL || !transmit_init(transmitter, engine->sides[SA_OUT]))
        return fail(engine, ENOMEM);
    transmitter->send = send_wire;
    transmitter->context = &engine->sending;
    for (;;) {
        struct virtio_net_hdr offload;
        size_t length;
        bool idle = transmitter->ready == 0;
        int got = tun_read(engine->tun, idle, &offload, data, TUN_MAX, &length);
        if (got < 0)
            return fail(engine, -got);
        if (got > 0 && transmit(transmitter, &offload, data, length, seconds_now()))
            notify(engine);
        if (got == 0 || transmitter->bytes >= FLUSH_BYTES || transmitter->ready == NET_BATCH)
            transmit_flush(transmitter);
    }
}

static int deliver_tun(void *context, const struct iovec *parts, int count) {
    return tun_write(((struct engine *)context)->tun, parts, count);
}

static void *run_in(void *argument) {
    struct engine *engine = argument;
    struct side *side = engine->sides[SA_IN];
    struct receiver *receiver = calloc(1, sizeof *receiver);
    struct arrivals *messages = malloc(sizeof *messages);
    struct arrival *arrivals = malloc(RECEIVE_BATCH * sizeof *arrivals);
    pthread_setname_np(pthread_self(), "esp-in");
    if (receiver == NULL || messages == NULL || arrivals == NULL || !arrivals_init(messages, engine->batch))
        return fail(engine, ENOMEM);
    *receiver = (struct receiver){.side = side, .deliver = deliver_tun, .context = engine};
    receiver->coalescer.udp = engine->udp_offload;
    for (;;) {
        int got = net_receive(&engine->receiving, messages, true);
        if (got == -ENETDOWN || got == -ECONNREFUSED || got == -EHOSTUNREACH || got == -EMSGSIZE)
            continue; /* about the device or about a packet that was sent, said once; the socket lives on */
        if (got < 0)
            return fail(engine, -got);
        int count, verdict;
        do {
            count = 0;
            while (count < RECEIVE_BATCH &&
                   (verdict = net_next(&engine->receiving, messages, &arrivals[count].packet, &arrivals[count].outer)) >= 0) {
                if (verdict == DELIVER)
                    count++;
                else
                    side_count_drop(side, (enum drop)verdict);
            }
            if (count > 0 && receive(receiver, arrivals, count, seconds_now()))
                notify(engine);
        } while (count == RECEIVE_BATCH);
        receive_flush(receiver);
    }
}

int phx_run(struct engine *engine, const struct wiring *wiring) {
    if (wiring->batch == 0 || wiring->batch > NET_BATCH || wiring->port > UINT16_MAX)
        return -EINVAL;
    engine->tun = wiring->tun;
    engine->event = wiring->event;
    engine->batch = (int)wiring->batch;
    engine->udp_offload = wiring->udp_offload != 0;
    engine->sending = (struct net){wiring->net, wiring->address, (uint16_t)wiring->port, wiring->port != 0};
    engine->receiving = engine->sending;
    /* Signals are the control thread's: it sleeps in a call that only a signal of its own interrupts. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    int error = pthread_create(&thread, NULL, run_out, engine);
    if (error == 0)
        error = pthread_create(&thread, NULL, run_in, engine);
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

static long pass_out(struct engine *engine, const uint8_t *input, size_t length, uint8_t *output, size_t capacity) {
    struct side *side = engine->sides[SA_OUT];
    /* As tight as it can be, so that a sanitizer sees every byte beyond. */
    size_t room = OUTER_HEADER + length + ESP_OVERHEAD;
    uint8_t *plain = malloc(length + ESP_LENT), *buffer = malloc(room);
    long result = -OUT_TOO_BIG;
    if (plain != NULL && buffer != NULL) {
        struct packet wire = {.buffer = buffer, .capacity = room};
        struct outer outer;
        memcpy(plain, input, length);
        gate_enter(&side->gate);
        enum drop verdict = outbound_packet(side, plain, length, &wire, &outer, seconds_now());
        gate_leave(&side->gate);
        result = -(long)verdict;
        if (verdict == DELIVER)
            outer_put(&wire, &outer);
        if (verdict == DELIVER && wire.length <= capacity) {
            memcpy(output, wire.data, wire.length);
            result = (long)wire.length;
        }
    }
    free(plain);
    free(buffer);
    return result;
}

static long pass_in(struct engine *engine, const uint8_t *input, size_t length, uint8_t *output, size_t capacity) {
    struct side *side = engine->sides[SA_IN];
    uint8_t *buffer = malloc(length + 1);
    if (buffer == NULL)
        return -IN_MALFORMED;
    struct packet packet = {buffer, length, buffer, length};
    struct outer outer;
    struct inner inner;
    memcpy(buffer, input, length);
    enum drop verdict = outer_take(&packet, &outer);
    gate_enter(&side->gate);
    if (verdict == DELIVER)
        verdict = inbound_packet(side, &packet, &outer, &inner, seconds_now());
    else
        side->drops[verdict]++;
    gate_leave(&side->gate);
    long result = -(long)verdict;
    if (verdict == DELIVER && packet.length <= capacity) {
        memcpy(output, packet.data, packet.length);
        result = (long)packet.length;
    }
    free(buffer);
    return result;
}

long phx_pass(struct engine *engine, int direction, const uint8_t *input, size_t length, uint8_t *output,
              size_t capacity) {
    return direction == SA_OUT ? pass_out(engine, input, length, output, capacity)
                               : pass_in(engine, input, length, output, capacity);
}

/* Packets one behind the other, each after its length. */
struct records {
    uint8_t *at, *end;
    bool overflow;
};

static void put_record(struct records *records, const struct iovec *parts, int count) {
    uint32_t length = 0;
    for (int i = 0; i < count; i++)
        length += (uint32_t)parts[i].iov_len;
    if (records->overflow || (size_t)(records->end - records->at) < sizeof length + length) {
        records->overflow = true;
        return;
    }
    memcpy(records->at, &length, sizeof length);
    records->at += sizeof length;
    for (int i = 0; i < count; i++) {
        memcpy(records->at, parts[i].iov_base, parts[i].iov_len);
        records->at += parts[i].iov_len;
    }
}

/* A copy of its own of the next record, as large as it is and `behind` bytes more; NULL at the end. */
static uint8_t *take_record(struct records *records, size_t behind, size_t *length) {
    uint32_t size;
    if ((size_t)(records->end - records->at) < sizeof size)
        return NULL;
    memcpy(&size, records->at, sizeof size);
    if (size > (size_t)(records->end - records->at) - sizeof size)
        return NULL;
    uint8_t *copy = malloc(size + behind + 1);
    if (copy == NULL)
        return NULL;
    memcpy(copy, records->at + sizeof size, size);
    records->at += sizeof size + size;
    *length = size;
    return copy;
}

static void record_wire(void *context, struct sending *sendings, int count) {
    for (int i = 0; i < count; i++) {
        struct packet *packet = sendings[i].packet;
        outer_put(packet, &sendings[i].outer);
        put_record(context, &(struct iovec){packet->data, packet->length}, 1);
        sendings[i].error = 0;
    }
}

static int record_bundle(void *context, const struct iovec *parts, int count) {
    put_record(context, parts, count);
    return 0;
}

static bool many_out(struct engine *engine, struct records *input, struct records *output) {
    struct transmitter *transmitter = malloc(sizeof *transmitter);
    if (transmitter == NULL || !transmit_init(transmitter, engine->sides[SA_OUT])) {
        free(transmitter);
        return false;
    }
    transmitter->send = record_wire;
    transmitter->context = output;
    uint8_t *record;
    size_t length;
    while ((record = take_record(input, ESP_LENT, &length)) != NULL) {
        struct virtio_net_hdr offload;
        bool whole = length >= sizeof offload;
        if (whole) {
            memcpy(&offload, record, sizeof offload);
            transmit(transmitter, &offload, record + sizeof offload, length - sizeof offload, seconds_now());
        }
        free(record);
        if (!whole)
            break;
    }
    transmit_flush(transmitter);
    transmit_release(transmitter);
    free(transmitter);
    return true;
}

static bool many_in(struct engine *engine, struct records *input, struct records *output) {
    struct receiver *receiver = calloc(1, sizeof *receiver);
    struct arrival *arrivals = calloc(RECEIVE_BATCH, sizeof *arrivals);
    uint8_t *memory[RECEIVE_BATCH];
    if (receiver != NULL && arrivals != NULL) {
        *receiver = (struct receiver){.side = engine->sides[SA_IN], .deliver = record_bundle, .context = output};
        receiver->coalescer.udp = true;
        int taken, count;
        do {
            size_t length;
            for (taken = 0, count = 0; taken < RECEIVE_BATCH; taken++) {
                if ((memory[taken] = take_record(input, 0, &length)) == NULL)
                    break;
                arrivals[count].packet = (struct packet){memory[taken], length, memory[taken], length};
                enum drop verdict = outer_take(&arrivals[count].packet, &arrivals[count].outer);
                if (verdict == DELIVER)
                    count++;
                else
                    side_count_drop(engine->sides[SA_IN], verdict);
            }
            receive(receiver, arrivals, count, seconds_now());
            receive_flush(receiver);
            for (int i = 0; i < taken; i++)
                free(memory[i]);
        } while (taken == RECEIVE_BATCH);
    }
    bool done = receiver != NULL && arrivals != NULL;
    free(receiver);
    free(arrivals);
    return done;
}

long phx_pass_many(struct engine *engine, int direction, const uint8_t *input, size_t length, uint8_t *output,
                   size_t capacity) {
    struct records in = {(uint8_t *)(uintptr_t)input, (uint8_t *)(uintptr_t)input + length, false};
    struct records out = {output, output + capacity, false};
    bool done = direction == SA_OUT ? many_out(engine, &in, &out) : many_in(engine, &in, &out);
    return done && !out.overflow && in.at == in.end ? out.at - output : -1;
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
