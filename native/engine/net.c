#include "net.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/mman.h>

enum { TRAIN_PACKETS = 64 /* UDP_MAX_SEGMENTS */, TRAIN_BYTES = 65507 };

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif

/* One message of one or more packets of the same length (but for the last) to the same place. */
struct message {
    struct sockaddr_in to;
    uint8_t control[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(uint16_t))] __attribute__((aligned(8)));
};

static void add_control(struct msghdr *header, int level, int type, const void *data, size_t size) {
    struct cmsghdr *control = (struct cmsghdr *)((uint8_t *)header->msg_control + header->msg_controllen);
    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(control), data, size);
    header->msg_controllen += CMSG_SPACE(size);
}

/* How many packets from the first on make one message. */
static int train_length(const struct net *net, const struct sending *sendings, int count) {
    const struct sending *first = &sendings[0];
    size_t size = first->packet->length, total = size;
    int packets = 1;
    while (net->segments && packets < count && packets < TRAIN_PACKETS && sendings[packets - 1].packet->length == size) {
        const struct sending *next = &sendings[packets];
        total += next->packet->length;
        if (next->packet->length > size || total > TRAIN_BYTES ||
            next->outer.destination.s_addr != first->outer.destination.s_addr ||
            next->outer.traffic_class != first->outer.traffic_class)
            break;
        packets++;
    }
    return packets;
}

static void send_all(struct net *net, struct sending *sendings, int count) {
    struct mmsghdr headers[NET_BATCH];
    struct message messages[NET_BATCH];
    struct iovec parts[NET_BATCH];
    int firsts[NET_BATCH + 1], made = 0;
    for (int i = 0; i < count; made++) {
        struct sending *first = &sendings[i];
        struct msghdr *header = &headers[made].msg_hdr;
        int packets = net->port != 0 ? train_length(net, first, count - i) : 1;
        firsts[made] = i;
        for (int k = i; k < i + packets; k++) {
            sendings[k].error = 0;
            if (net->header)
                outer_put(sendings[k].packet, &sendings[k].outer);
            parts[k] = (struct iovec){sendings[k].packet->data, sendings[k].packet->length};
        }
        messages[made].to = (struct sockaddr_in){
            .sin_family = AF_INET, .sin_port = htons(net->port), .sin_addr = first->outer.destination};
        *header = (struct msghdr){.msg_name = &messages[made].to,
                                  .msg_namelen = sizeof messages[made].to,
                                  .msg_iov = &parts[i],
                                  .msg_iovlen = (size_t)packets,
                                  .msg_control = messages[made].control};
        int traffic_class = first->outer.traffic_class;
        uint16_t size = (uint16_t)first->packet->length;
        if (!net->header && traffic_class != 0)
            add_control(header, IPPROTO_IP, IP_TOS, &traffic_class, sizeof traffic_class);
        if (packets > 1)
            add_control(header, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size);
        i += packets;
    }
    firsts[made] = count;
    for (int sent = 0; sent < made;) {
        int now = sendmmsg(net->fd, headers + sent, (unsigned)(made - sent), 0);
        if (now > 0) {
            sent += now;
        } else if (errno != EINTR) {
            for (int k = firsts[sent]; k < firsts[sent + 1]; k++)
                sendings[k].error = errno;
            sent++; /* the first of the rest is the one that was refused */
        }
    }
}

void net_send(struct net *net, struct sending *sendings, int count) {
    send_all(net, sendings, count);
    /* EIO: the device has no checksum offload, without which the kernel cuts no trains (udp(7)). */
    for (int i = 0; i < count; i++)
        if (net->segments && sendings[i].error == EIO) {
            net->segments = false;
            send_all(net, sendings + i, count - i);
        }
}

/* The kernel writes lengths and flags into a header that it has used. */
static void prepare(struct arrivals *arrivals, int first, int end) {
    for (int i = first; i < end; i++)
        arrivals->messages[i].msg_hdr = (struct msghdr){.msg_name = arrivals->udp ? &arrivals->sources[i] : NULL,
                                                        .msg_namelen = arrivals->udp ? sizeof arrivals->sources[i] : 0,
                                                        .msg_iov = &arrivals->parts[i],
                                                        .msg_iovlen = 1,
                                                        .msg_control = arrivals->udp ? arrivals->controls[i] : NULL,
                                                        .msg_controllen = arrivals->udp ? NET_CONTROL : 0};
}

bool arrivals_init(struct arrivals *arrivals, int max, bool udp) {
    memset(arrivals, 0, sizeof *arrivals);
    uint8_t *memory =
        mmap(NULL, (size_t)max * NET_SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    arrivals->max = max;
    arrivals->udp = udp;
    for (int i = 0; i < max; i++)
        arrivals->parts[i] = (struct iovec){memory + (size_t)i * NET_SLOT, NET_SLOT};
    prepare(arrivals, 0, max);
    return true;
}

static int take(const struct net *net, struct arrivals *arrivals, int flags) {
    int count;
    do
        count = recvmmsg(net->fd, arrivals->messages + arrivals->count, (unsigned)(arrivals->max - arrivals->count), flags, NULL);
    while (count < 0 && errno == EINTR);
    if (count > 0)
        arrivals->count += count;
    return count < 0 ? -errno : count;
}

void arrivals_forget(struct arrivals *arrivals) {
    prepare(arrivals, 0, arrivals->count);
    arrivals->count = arrivals->next = 0;
    arrivals->at = 0;
}

int net_receive(const struct net *net, struct arrivals *arrivals) {
    return take(net, arrivals, MSG_WAITFORONE);
}

int net_receive_more(const struct net *net, struct arrivals *arrivals) {
    int count = arrivals->count < arrivals->max ? take(net, arrivals, MSG_DONTWAIT) : 0;
    return count > 0 ? count : 0; /* an error is for the next wait to tell */
}

/* Traffic class and packet size that the kernel tells of a UDP message. */
static void read_control(struct msghdr *header, uint8_t *traffic_class, size_t *size) {
    for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control != NULL; control = CMSG_NXTHDR(header, control)) {
        if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_TOS) {
            *traffic_class = *CMSG_DATA(control);
        } else if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_GRO) {
            int told;
            memcpy(&told, CMSG_DATA(control), sizeof told);
            if (told > 0)
                *size = (size_t)told;
        }
    }
}

int net_next(const struct net *net, struct arrivals *arrivals, struct packet *packet, struct outer *outer) {
    while (arrivals->next < arrivals->count) {
        struct mmsghdr *message = &arrivals->messages[arrivals->next];
        uint8_t *memory = arrivals->parts[arrivals->next].iov_base;
        size_t length = message->msg_len;
        if (net->port == 0 || message->msg_hdr.msg_flags & MSG_TRUNC || length == 0) {
            arrivals->next++;
            *packet = (struct packet){memory, NET_SLOT, memory, length};
            return message->msg_hdr.msg_flags & MSG_TRUNC || length == 0 ? IN_MALFORMED : (int)outer_take(packet, outer);
        }
        size_t size = length, at = arrivals->at;
        *outer = (struct outer){.source = arrivals->sources[arrivals->next].sin_addr, .destination = net->address};
        read_control(&message->msg_hdr, &outer->traffic_class, &size);
        if (size > length - at)
            size = length - at;
        *packet = (struct packet){memory + at, size, memory + at, size};
        arrivals->at += size;
        if (arrivals->at == length) {
            arrivals->next++;
            arrivals->at = 0;
        }
        /* RFC 3948 section 2.3: one byte 0xFF keeps a NAT's mapping alive. */
        if (size != 1 || packet->data[0] != 0xff)
            return DELIVER;
    }
    return -1;
}
