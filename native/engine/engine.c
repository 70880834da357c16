#include "engine.h"

#include "net.h"
#include "receive.h"
#include "transmit.h"
#include "tun.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The largest that a TUN hands over, and what a train writes behind it. */
enum { TUN_MAX = 65536, FLUSH_BYTES = 32768 };

/* Nanoseconds for which a bundle waits for the rest of its stream: several times what a sender needs for a packet. */
enum { LINGER = 10000 };

/* Nanoseconds for which a thread that has nothing to do stays awake (AWAKE), giving way to whoever else wants the CPU: to wake a
 * thread on an idle CPU of a virtual machine costs the one that wakes it a dozen microseconds, and the packet fifty. Who gives
 * way to somebody that computes gets the CPU back only after that one's turn, and has spent what the scheduler owed it, while
 * who sleeps is let in as soon as it is woken: a turn that took CROWDED says so, and for CALM from then on the thread stays
 * awake in the middle of bulk transfers only, which lose more by wake-ups than by waiting. Where neither direction has carried
 * bulk for QUIET, somebody waits for each packet and sends the next when it has come: then it stays awake for AWAKE_QUIET. In a
 * bulk transfer the thread that has only acknowledgements to carry would do so at the others' cost. */
enum { AWAKE = 50000, AWAKE_QUIET = 200000, QUIET = 2000000, CROWDED = 500000, CALM = 1000000000 };

/* What makes it a bulk transfer: so much in one packet of the TUN, or so many messages at once. */
enum { BULK_BYTES = 8192, BULK_MESSAGES = 4 };

/* What a packet thread did so far; written by it alone. */
struct work {
    atomic_uint_fast64_t busy;  /* nanoseconds from taking up packets until there were no more */
    atomic_uint_fast64_t wakes; /* how often it slept and was woken */
};

struct engine {
    struct side *sides[2];                     /* by enum sa_direction */
    int tun, event;                            /* set before the threads start, as is all below but the atomics */
    struct net sending, receiving;             /* the same socket, for one thread each */
    int batch;
    bool udp_offload;
    atomic_int failure;
    struct work work[2];                       /* by enum sa_direction */
    atomic_uint_fast64_t last_bulk;            /* when, of nanoseconds_now, either thread last carried a part of a bulk transfer */
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

static uint64_t nanoseconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* What one thread knows of its waiting, in nanoseconds. */
struct vigil {
    uint64_t began;         /* when it took up what it did last */
    uint64_t since;         /* when it last had something to do */
    uint64_t crowded_until; /* before then the CPU is taken to be somebody else's */
    bool bulk;              /* what it last did was a part of a bulk transfer */
};

static void count(atomic_uint_fast64_t *counter, uint64_t more) {
    atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

/* The thread has nothing to do from now on. */
static void rest(struct engine *engine, struct vigil *vigil, struct work *work) {
    vigil->since = nanoseconds_now();
    count(&work->busy, vigil->since - vigil->began);
    if (vigil->bulk)
        atomic_store_explicit(&engine->last_bulk, vigil->since, memory_order_relaxed);
}

/* True if the thread shall look again, after it has given way; false if it shall sleep. */
static bool stay_awake(struct engine *engine, struct vigil *vigil) {
    uint64_t now = nanoseconds_now();
    /* Signed: the other thread may have stored a later time than `now`. */
    int64_t quiet = (int64_t)(now - atomic_load_explicit(&engine->last_bulk, memory_order_relaxed));
    if (now - vigil->since >= (quiet < QUIET ? AWAKE : AWAKE_QUIET) || (now < vigil->crowded_until && !vigil->bulk))
        return false;
    sched_yield();
    uint64_t back = nanoseconds_now();
    if (back - now >= CROWDED)
        vigil->crowded_until = back + CALM;
    return true;
}

/* The first published part of struct sched_attr; linux/sched/types.h cannot be had beside <sched.h>. */
struct turn {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period; /* nanoseconds */
};

/* A packet thread's name, and a turn on the CPU that is a little shorter than everybody's. Who is woken takes the CPU at once from
 * one with longer turns, if it has not had its share yet; from one whose turns are as long it gets the CPU when that turn ends
 * (PREEMPT_SHORT, Linux 6.12). It is a right of every thread, and none gets more of the CPU by it. An older kernel tells and
 * takes no length. */
static void begin(const char *name) {
    struct turn turn = {0};
    pthread_setname_np(pthread_self(), name);
    if (syscall(SYS_sched_getattr, 0, &turn, sizeof turn, 0) == 0 && turn.runtime > 0) {
        turn.runtime -= turn.runtime / 8;
        syscall(SYS_sched_setattr, 0, &turn, 0);
    }
}

static void send_wire(void *context, struct sending *sendings, int count) { net_send(context, sendings, count); }

static void *run_out(void *argument) {
    struct engine *engine = argument;
    struct transmitter *transmitter = malloc(sizeof *transmitter);
    uint8_t *data = malloc(TUN_MAX + ESP_LENT);
    begin("esp-out");
    if (transmitter == NULL || data == NULL || !transmit_init(transmitter, engine->sides[SA_OUT]))
        return fail(engine, ENOMEM);
    transmitter->send = send_wire;
    transmitter->context = &engine->sending;
    struct work *work = &engine->work[SA_OUT];
    struct vigil vigil = {.began = nanoseconds_now()};
    for (;;) {
        struct virtio_net_hdr offload;
        size_t length;
        int got = tun_read(engine->tun, false, &offload, data, TUN_MAX, &length);
        if (got == 0 && transmitter->ready == 0) {
            rest(engine, &vigil, work);
            while (got == 0 && stay_awake(engine, &vigil))
                got = tun_read(engine->tun, false, &offload, data, TUN_MAX, &length);
            if (got == 0) {
                got = tun_read(engine->tun, true, &offload, data, TUN_MAX, &length);
                count(&work->wakes, 1);
            }
            vigil.began = nanoseconds_now();
        }
        if (got > 0)
            vigil.bulk = length >= BULK_BYTES;
        if (got < 0)
            return fail(engine, -got);
        if (got > 0 && transmit(transmitter, &offload, data, length, seconds_now()))
            notify(engine);
        if (got == 0 || transmitter->used >= FLUSH_BYTES || transmitter->ready == NET_BATCH)
            transmit_flush(transmitter);
    }
}

static int deliver_tun(void *context, const struct iovec *parts, int count) {
    return tun_write(((struct engine *)context)->tun, parts, count);
}

/* Takes in what has come. */
static void take_in(struct engine *engine, struct receiver *receiver, struct arrivals *messages, struct arrival *arrivals) {
    int count, verdict;
    do {
        count = 0;
        while (count < RECEIVE_BATCH &&
               (verdict = net_next(&engine->receiving, messages, &arrivals[count].packet, &arrivals[count].outer)) >= 0) {
            if (verdict == DELIVER)
                count++;
            else
                side_count_drop(receiver->side, (enum drop)verdict);
        }
        if (count > 0 && receive(receiver, arrivals, count, seconds_now()))
            notify(engine);
    } while (count == RECEIVE_BATCH);
}

static void *run_in(void *argument) {
    struct engine *engine = argument;
    struct receiver *receiver = calloc(1, sizeof *receiver);
    struct arrivals *messages = malloc(sizeof *messages);
    struct arrival *arrivals = malloc(RECEIVE_BATCH * sizeof *arrivals);
    begin("esp-in");
    if (receiver == NULL || messages == NULL || arrivals == NULL || !arrivals_init(messages, engine->batch, engine->receiving.port != 0))
        return fail(engine, ENOMEM);
    *receiver = (struct receiver){.side = engine->sides[SA_IN], .deliver = deliver_tun, .context = engine};
    receiver->coalescer.udp = engine->udp_offload;
    struct work *work = &engine->work[SA_IN];
    struct vigil vigil = {.began = nanoseconds_now()};
    for (;;) {
        arrivals_forget(messages);
        int got = net_receive_more(&engine->receiving, messages);
        if (got == 0) {
            rest(engine, &vigil, work);
            while (got == 0 && stay_awake(engine, &vigil))
                got = net_receive_more(&engine->receiving, messages);
            if (got == 0) {
                got = net_receive(&engine->receiving, messages);
                count(&work->wakes, 1);
            }
            vigil.began = nanoseconds_now();
        }
        if (got == -ENETDOWN || got == -ECONNREFUSED || got == -EHOSTUNREACH || got == -EMSGSIZE)
            continue; /* about the device or about a packet that was sent, said once; the socket lives on */
        if (got < 0)
            return fail(engine, -got);
        take_in(engine, receiver, messages, arrivals);
        /* A stream that was cut off in its middle goes on in a moment: what follows joins the bundle. */
        uint64_t until = nanoseconds_now() + LINGER;
        while (coalesce_expects(&receiver->coalescer) && messages->count < messages->max) {
            if (net_receive_more(&engine->receiving, messages) > 0) {
                take_in(engine, receiver, messages, arrivals);
                until = nanoseconds_now() + LINGER;
            } else if (nanoseconds_now() > until) {
                break;
            }
        }
        vigil.bulk = messages->count >= BULK_MESSAGES ||
                     (receiver->coalescer.count > 0 && receiver->coalescer.bundles[0].length >= BULK_BYTES);
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
    int header = 0;
    socklen_t size = sizeof header;
    if (wiring->port == 0 && getsockopt(wiring->net, IPPROTO_IP, IP_HDRINCL, &header, &size) != 0)
        return -errno;
    engine->sending = (struct net){.fd = wiring->net,
                                   .address = wiring->address,
                                   .port = (uint16_t)wiring->port,
                                   .segments = wiring->port != 0,
                                   .header = header != 0};
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

struct side *engine_side(struct engine *engine, int direction) { return engine->sides[direction == SA_OUT ? SA_OUT : SA_IN]; }

int phx_sa_add(struct engine *engine, int direction, const struct sa_config *config) {
    return side_add(engine_side(engine, direction), direction == SA_OUT ? SA_OUT : SA_IN, config);
}

int phx_sa_remove(struct engine *engine, int direction, uint32_t spi, uint32_t destination, struct sa_usage *last) {
    return side_remove(engine_side(engine, direction), spi, (struct in_addr){destination}, last);
}

int phx_sa_usage(struct engine *engine, int direction, uint32_t spi, uint32_t destination, struct sa_usage *usage) {
    return side_usage(engine_side(engine, direction), spi, (struct in_addr){destination}, usage);
}

int phx_sa_limit(struct engine *engine, int direction, uint32_t spi, uint32_t destination,
                 const struct sa_limits *limits) {
    return side_limit(engine_side(engine, direction), spi, (struct in_addr){destination}, limits);
}

int phx_policies(struct engine *engine, int direction, const struct policy *policies, size_t count) {
    return side_replace_policies(engine_side(engine, direction), policies, count);
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

void phx_work(struct engine *engine, uint64_t *counts) {
    for (int i = 0; i < 2; i++) {
        counts[2 * i] = atomic_load_explicit(&engine->work[i].busy, memory_order_relaxed);
        counts[2 * i + 1] = atomic_load_explicit(&engine->work[i].wakes, memory_order_relaxed);
    }
}
