/* Both packet threads and a control side that never rests, under ThreadSanitizer: `threads SECONDS`. A socket pair stands for
 * the TUN; ESP goes in UDP to the engine's own port. Exits with 0 if packets came through and nothing raced. */
#include "engine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SPI = 0x100, HEADER = 10, PACKET = HEADER + 28 + 1200 };

static struct in_addr own;
static int pair[2];

static void require(int holds, const char *what) {
    if (!holds) {
        perror(what);
        _exit(1);
    }
}

static struct sa_config configuration(uint32_t spi) {
    struct sa_config config = {
        .spi = spi, .reqid = 1, .source = own, .destination = own, .window = 4096, .key_length = 36, .key = {1, 2, 3}};
    memset(&config.limits, 0xff, sizeof config.limits);
    return config;
}

static void install(struct engine *engine, uint32_t spi) {
    struct sa_config config = configuration(spi);
    struct policy policy = {.family = AF_INET, .spi = spi, .reqid = 1, .tunnel_source = own, .tunnel_destination = own};
    require(phx_sa_add(engine, SA_IN, &config) == 0 && phx_sa_add(engine, SA_OUT, &config) == 0, "add");
    require(phx_policies(engine, SA_IN, &policy, 1) == 0 && phx_policies(engine, SA_OUT, &policy, 1) == 0, "policies");
}

static void *send_all(void *argument) {
    uint8_t packet[PACKET] = {[HEADER] = 0x45, [HEADER + 9] = 17};
    packet[HEADER + 2] = (PACKET - HEADER) >> 8;
    packet[HEADER + 3] = (PACKET - HEADER) & 255;
    (void)argument;
    for (;;)
        if (send(pair[1], packet, sizeof packet, 0) < 0)
            usleep(100);
    return NULL;
}

static void *receive_all(void *argument) {
    uint8_t packet[70000];
    for (;;)
        if (recv(pair[1], packet, sizeof packet, 0) > 0)
            __atomic_add_fetch((long *)argument, 1, __ATOMIC_RELAXED);
    return NULL;
}

int main(int count, char **words) {
    static long received; /* for as long as the threads live */
    own.s_addr = htonl(INADDR_LOOPBACK);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = own};
    socklen_t size = sizeof address;
    int net = socket(AF_INET, SOCK_DGRAM, 0), event = eventfd(0, EFD_NONBLOCK);
    require(bind(net, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    require(getsockname(net, (struct sockaddr *)&address, &size) == 0, "getsockname");
    require(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0, "socketpair");
    struct engine *engine = phx_new();
    require(engine != NULL, "engine");
    install(engine, SPI);
    struct wiring wiring = {.tun = pair[0], .net = net, .event = event, .address = own,
                            .port = ntohs(address.sin_port), .batch = 8, .udp_offload = 1};
    require(phx_run(engine, &wiring) == 0, "run");
    pthread_t thread;
    pthread_create(&thread, NULL, send_all, NULL);
    pthread_create(&thread, NULL, receive_all, &received);
    time_t end = time(NULL) + (count > 1 ? atoi(words[1]) : 2);
    long rounds = 0;
    for (uint32_t spi = SPI; time(NULL) < end; spi++, rounds++) {
        struct sa_usage usage;
        struct sa_limits limits = configuration(spi).limits;
        struct flow flows[4];
        uint64_t drops[DROP_CAUSES], work[4];
        install(engine, spi + 1);
        for (int direction = 0; direction < 2; direction++) {
            require(phx_sa_usage(engine, direction, spi, own.s_addr, &usage) == 0, "usage");
            require(phx_sa_limit(engine, direction, spi, own.s_addr, &limits) == 0, "limit");
            require(phx_sa_remove(engine, direction, spi, own.s_addr, &usage) == 0, "remove");
        }
        phx_wanted(engine, flows, 4);
        phx_drops(engine, drops);
        phx_work(engine, work);
        require(phx_failure(engine) == 0, "a packet thread");
    }
    long got = __atomic_load_n(&received, __ATOMIC_RELAXED);
    printf("%ld packets, %ld rekeys\n", got, rounds);
    fflush(stdout);
    _exit(got > 0 ? 0 : 1);
}
