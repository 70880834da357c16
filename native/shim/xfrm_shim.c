/* Makes a process that speaks NETLINK_XFRM to the kernel speak it to the engine instead. For LD_PRELOAD.
 *
 * An AF_NETLINK socket of protocol NETLINK_XFRM becomes an AF_UNIX SOCK_SEQPACKET connection to the path in
 * PHALANX_XFRM_SOCKET: it keeps message borders, reports the true length under MSG_TRUNC and ignores destination addresses,
 * as netlink does. What only netlink sockets know is answered here:
 *   - bind's multicast groups go to the engine as a message of eight bytes, "GRPS" and the mask in host order;
 *   - getsockname and the sender's address say port 0, the kernel's: strongSwan drops what comes from elsewhere;
 *   - options of level SOL_NETLINK succeed.
 * When the engine is gone the process exits with 70 at once: charon would spin on a read of nothing with a lock held, and
 * without an engine there is no SA that its state could be true of.
 *
 * UDP_ENCAP is swallowed: this host's kernel must not take ESP-in-UDP away from a socket that IKE listens on. All other
 * sockets and options pass through, IP_XFRM_POLICY of the IKE sockets first of all, which lets IKE pass the kernel's guard.
 *
 * The process that opens an XFRM socket is the one this is for: from then on its children are started without the shim. */
#include <dlfcn.h>
#include <errno.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SHIM_API __attribute__((visibility("default")))

enum { DESCRIPTORS = 65536, EXIT_ENGINE_GONE = 70, UDP_ENCAPSULATION = 100, NETLINK_OPTIONS = 270 };

static atomic_bool redirected[DESCRIPTORS];
static struct sockaddr_un engine = {.sun_family = AF_UNIX};

static int (*real_socket)(int, int, int);
static int (*real_close)(int);
static int (*real_bind)(int, const struct sockaddr *, socklen_t);
static int (*real_connect)(int, const struct sockaddr *, socklen_t);
static int (*real_getsockname)(int, struct sockaddr *, socklen_t *);
static int (*real_setsockopt)(int, int, int, const void *, socklen_t);
static ssize_t (*real_send)(int, const void *, size_t, int);
static ssize_t (*real_sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
static ssize_t (*real_sendmsg)(int, const struct msghdr *, int);
static ssize_t (*real_recv)(int, void *, size_t, int);
static ssize_t (*real_recvfrom)(int, void *, size_t, int, struct sockaddr *, socklen_t *);
static ssize_t (*real_recvmsg)(int, struct msghdr *, int);

static void *find(const char *name) {
    void *symbol = dlsym(RTLD_NEXT, name);
    if (symbol == NULL)
        _exit(EXIT_ENGINE_GONE);
    return symbol;
}

__attribute__((constructor)) static void initialise(void) {
    const char *path = getenv("PHALANX_XFRM_SOCKET");
    /* A path that does not fit leaves the address empty: connect fails, and so does the process that asked. */
    if (path != NULL && strlen(path) < sizeof engine.sun_path)
        memcpy(engine.sun_path, path, strlen(path) + 1);
    real_socket = (int (*)(int, int, int))find("socket");
    real_close = (int (*)(int))find("close");
    real_bind = (int (*)(int, const struct sockaddr *, socklen_t))find("bind");
    real_connect = (int (*)(int, const struct sockaddr *, socklen_t))find("connect");
    real_getsockname = (int (*)(int, struct sockaddr *, socklen_t *))find("getsockname");
    real_setsockopt = (int (*)(int, int, int, const void *, socklen_t))find("setsockopt");
    real_send = (ssize_t (*)(int, const void *, size_t, int))find("send");
    real_sendto = (ssize_t (*)(int, const void *, size_t, int, const struct sockaddr *, socklen_t))find("sendto");
    real_sendmsg = (ssize_t (*)(int, const struct msghdr *, int))find("sendmsg");
    real_recv = (ssize_t (*)(int, void *, size_t, int))find("recv");
    real_recvfrom = (ssize_t (*)(int, void *, size_t, int, struct sockaddr *, socklen_t *))find("recvfrom");
    real_recvmsg = (ssize_t (*)(int, struct msghdr *, int))find("recvmsg");
}

/* Constructors of other libraries may run before ours. */
static void ensure_initialised(void) {
    if (real_recvmsg == NULL)
        initialise();
}

static int is_redirected(int fd) {
    ensure_initialised();
    return fd >= 0 && fd < DESCRIPTORS && atomic_load(&redirected[fd]);
}

/* The result of a call on a redirected socket, unless it says that the engine is gone. */
static ssize_t alive(ssize_t result, int reading) {
    if (result < 0 ? errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN : reading && result == 0)
        _exit(EXIT_ENGINE_GONE);
    return result;
}

static void name_kernel(void *address, socklen_t *length) {
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    if (address == NULL || length == NULL)
        return;
    memcpy(address, &kernel, *length < sizeof kernel ? *length : sizeof kernel);
    *length = sizeof kernel;
}

SHIM_API int socket(int domain, int type, int protocol) {
    ensure_initialised();
    if (domain != AF_NETLINK || protocol != NETLINK_XFRM)
        return real_socket(domain, type, protocol);
    int fd = real_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | (type & SOCK_NONBLOCK), 0);
    if (fd < 0)
        return fd;
    int error = fd < DESCRIPTORS ? 0 : EMFILE;
    if (error == 0 && real_connect(fd, (const struct sockaddr *)&engine, sizeof engine) != 0)
        error = errno;
    if (error != 0) {
        real_close(fd);
        errno = error;
        return -1;
    }
    atomic_store(&redirected[fd], true);
    unsetenv("LD_PRELOAD");
    unsetenv("PHALANX_XFRM_SOCKET");
    return fd;
}

SHIM_API int close(int fd) {
    if (is_redirected(fd))
        atomic_store(&redirected[fd], false); /* before the number can be given to another thread */
    return real_close(fd);
}

SHIM_API int bind(int fd, const struct sockaddr *address, socklen_t length) {
    if (!is_redirected(fd))
        return real_bind(fd, address, length);
    if (address == NULL || length < sizeof(struct sockaddr_nl)) {
        errno = EINVAL;
        return -1;
    }
    struct {
        char tag[4];
        uint32_t groups;
    } membership = {{'G', 'R', 'P', 'S'}, ((const struct sockaddr_nl *)address)->nl_groups};
    return alive(real_send(fd, &membership, sizeof membership, MSG_NOSIGNAL), 0) < 0 ? -1 : 0;
}

SHIM_API int connect(int fd, const struct sockaddr *address, socklen_t length) {
    return is_redirected(fd) ? 0 : real_connect(fd, address, length);
}

SHIM_API int getsockname(int fd, struct sockaddr *address, socklen_t *length) {
    if (!is_redirected(fd))
        return real_getsockname(fd, address, length);
    name_kernel(address, length);
    return 0;
}

SHIM_API int setsockopt(int fd, int level, int option, const void *value, socklen_t length) {
    if (level == IPPROTO_UDP && option == UDP_ENCAPSULATION)
        return 0;
    if (is_redirected(fd) && level == NETLINK_OPTIONS)
        return 0;
    return real_setsockopt(fd, level, option, value, length);
}

SHIM_API ssize_t send(int fd, const void *data, size_t length, int flags) {
    if (!is_redirected(fd))
        return real_send(fd, data, length, flags);
    return alive(real_send(fd, data, length, flags | MSG_NOSIGNAL), 0);
}

SHIM_API ssize_t sendto(int fd, const void *data, size_t length, int flags, const struct sockaddr *to, socklen_t to_length) {
    if (!is_redirected(fd))
        return real_sendto(fd, data, length, flags, to, to_length);
    return alive(real_send(fd, data, length, flags | MSG_NOSIGNAL), 0);
}

SHIM_API ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    if (!is_redirected(fd))
        return real_sendmsg(fd, message, flags);
    struct msghdr unaddressed = {.msg_iov = message->msg_iov, .msg_iovlen = message->msg_iovlen};
    return alive(real_sendmsg(fd, &unaddressed, flags | MSG_NOSIGNAL), 0);
}

SHIM_API ssize_t recv(int fd, void *data, size_t length, int flags) {
    return is_redirected(fd) ? alive(real_recv(fd, data, length, flags), 1) : real_recv(fd, data, length, flags);
}

SHIM_API ssize_t recvfrom(int fd, void *data, size_t length, int flags, struct sockaddr *from, socklen_t *from_length) {
    if (!is_redirected(fd))
        return real_recvfrom(fd, data, length, flags, from, from_length);
    ssize_t result = alive(real_recv(fd, data, length, flags), 1);
    if (result >= 0)
        name_kernel(from, from_length);
    return result;
}

SHIM_API ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    if (!is_redirected(fd))
        return real_recvmsg(fd, message, flags);
    void *name = message->msg_name;
    socklen_t name_length = message->msg_namelen;
    ssize_t result = alive(real_recvmsg(fd, message, flags), 1);
    message->msg_name = name;
    message->msg_namelen = name_length;
    if (result >= 0)
        name_kernel(name, &message->msg_namelen);
    return result;
}

/* What the calls above become in a program built with _FORTIFY_SOURCE where the buffer's size is known. */
SHIM_API ssize_t __recv_chk(int fd, void *data, size_t length, size_t size, int flags) {
    if (length > size)
        abort();
    return recv(fd, data, length, flags);
}

SHIM_API ssize_t __recvfrom_chk(int fd, void *data, size_t length, size_t size, int flags, struct sockaddr *from,
                                socklen_t *from_length) {
    if (length > size)
        abort();
    return recvfrom(fd, data, length, flags, from, from_length);
}
