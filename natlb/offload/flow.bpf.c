// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The fast path: packets of established connections, rewritten where they come in.
 *
 * natlb decides in Python which connections there are and where they go. What is left to do with nearly every packet is
 * always the same, and is done here, at tc ingress of each interface, before the packet meets the kernel's own stack:
 *
 *     read      is it a plain packet of TCP or UDP, over IPv4 or IPv6?
 *     flows     is its tuple one that natlb has entered?  What is to become of it stands there.
 *     in turn   is everything that came before it through with the engine?  Else it has to follow.
 *     route     where would the kernel send what it becomes, by which neighbour, and does it fit?
 *     record    does it agree with what is known of the connection?  Then it is counted, and may move the state.
 *     rewrite   addresses, ports, checksums, TTL, and the two link-layer addresses
 *     redirect  out of the interface that the route has named
 *
 * Whatever one of the first four does not answer with a plain yes goes on as if this program were not there: up to the
 * kernel, NFQUEUE and Python, which can do everything. So nothing in here needs to be complete, but what it does must
 * be exactly what the engine would have done: `natlb/core/window.py` and `natlb/core/tcp.py` stand below once more, as
 * far as they concern a connection that the engine has entered and that goes its plain way, and the tests hold the one
 * against the other, byte for byte. It is the engine's choice how early it enters a connection: with the client's SYN,
 * so that the handshake is done here, or once it is established.
 * A packet that was recorded is on its way: if it could not be rewritten after all it is thrown away, never passed on.
 *
 * The program ends with TC_ACT_UNSPEC where it does nothing, so that the filters behind it have their turn.
 *
 * What Python and this program tell each other stands in maps: `natlb/offload/layout.py` says the same as the structures
 * below, and compares itself with `facts` before the program is loaded.
 *
 * Only UAPI headers are used, and no relocations against the running kernel: it runs wherever its helpers are there.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stddef.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define PACKED_COPY(to, from) __builtin_memcpy(to, from, sizeof(to))

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NET16(number) __builtin_bswap16(number)
#define NET32(number) __builtin_bswap32(number)
#else
#define NET16(number) (number)
#define NET32(number) (number)
#endif

static void *(*map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static __u64 (*ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static __u32 (*get_prandom_u32)(void) = (void *)BPF_FUNC_get_prandom_u32;
static long (*skb_pull_data)(struct __sk_buff *, __u32 size) = (void *)BPF_FUNC_skb_pull_data;
static long (*skb_load_bytes)(const void *, __u32 at, void *to, __u32 size) = (void *)BPF_FUNC_skb_load_bytes;
static long (*skb_store_bytes)(struct __sk_buff *, __u32 at, const void *from, __u32 size, __u64 flags) =
    (void *)BPF_FUNC_skb_store_bytes;
static long (*l4_csum_replace)(struct __sk_buff *, __u32 at, __u64 from, __u64 to, __u64 flags) =
    (void *)BPF_FUNC_l4_csum_replace;
static __s64 (*csum_diff)(__be32 *from, __u32 from_size, __be32 *to, __u32 to_size, __u32 seed) =
    (void *)BPF_FUNC_csum_diff;
static long (*csum_level)(struct __sk_buff *, __u64 level) = (void *)BPF_FUNC_csum_level;
static long (*fib_lookup)(void *, struct bpf_fib_lookup *, int size, __u32 flags) = (void *)BPF_FUNC_fib_lookup;
static long (*redirect)(__u32 interface, __u64 flags) = (void *)BPF_FUNC_redirect;
static void (*spin_lock)(struct bpf_spin_lock *) = (void *)BPF_FUNC_spin_lock;
static void (*spin_unlock)(struct bpf_spin_lock *) = (void *)BPF_FUNC_spin_unlock;
static void *(*ringbuf_reserve)(void *ring, __u64 size, __u64 flags) = (void *)BPF_FUNC_ringbuf_reserve;
static void (*ringbuf_submit)(void *record, __u64 flags) = (void *)BPF_FUNC_ringbuf_submit;

/* ---- What the maps hold: see natlb/offload/layout.py ------------------------------------------------------------ */

enum { LAYOUT = 3, SNAP = 2048 };

enum state { INIT, SYN_RECEIVED, ESTABLISHED, CLIENT_FIN, SERVER_FIN, BOTH_FIN, TRANS, BOTH_WAYS };

enum direction { ORIGINAL, REPLY, NOBODY };

enum { BOTH_CHANGING = 3, OUT_OF_TURN = 4 };

/* Everything in network order, as it stands in a packet. An IPv4 address is followed by zeros. */
struct ends {
    __u32 source[4];
    __u32 destination[4];
    __u16 source_port;
    __u16 destination_port;
};

struct key {
    struct ends ends;
    __u8 protocol;
    __u8 version;
    __u8 zero[2];
};

/* What is to become of a packet. The differences are sums of words as they lie in memory (RFC 1624). */
struct flow {
    struct ends becomes;
    __u16 addresses_differ;
    __u16 ports_differ;
    __u32 row;
    __u32 generation;
    __u8 direction;
    __u8 zero[3];
};

/* One of the two that send: see natlb/core/ledger.py. */
struct side {
    __u64 packets;
    __u64 octets;
    __u32 following;
    __u32 acked;
    __u32 edge;
    __u8 shift;
    __u8 offered;
    __u16 zero;
};

struct connection {
    struct bpf_spin_lock lock;
    __u32 generation;
    __u64 seen;
    struct side sides[2];
    __u64 opened;
    __u64 answered;
    __u64 identity;
    __u64 patience;  /* until when packets follow those that went to the engine */
    __u32 passed[2]; /* by direction, the fingerprint of the last one that did */
    __u8 state;
    __u8 by;
    __u8 before;     /* the state that a RST has ended */
    __u8 changing;   /* a bit for each direction whose packets are still passed on, and OUT_OF_TURN */
    __u32 passes;    /* so many more may be passed on: then patience is at its end, too */
};

/* What only Python writes, without a system call, while packets of a connection still go to it. */
struct handled {
    __u32 last[2]; /* by direction, the fingerprint of the last packet that has left the engine */
    __u32 following[2];
    __u32 acked[2];
    __u32 edge[2];
};

struct settings {
    __u32 layout;
    __u32 sampled;
    __u32 narrowest[2]; /* the smallest MTU that a route sets, of IPv4 and of IPv6; 0 if none does */
};

/* What happened to a connection that is over. */
struct ended {
    __u32 row;
    __u32 generation;
};

struct sample {
    __u32 row;
    __u32 generation;
    __u32 size;
    __u32 copied;
    __u8 direction;
    __u8 zero[7];
    __u8 before[SNAP];
    __u8 after[SNAP];
};

/* The notation by which libbpf knows maps: types of members that are never there. How many entries there are, natlb
 * says when it loads the program. */
#define UINT(name, value) int(*name)[value]
#define TYPE(name, value) typeof(value) *name

struct {
    UINT(type, BPF_MAP_TYPE_HASH);
    UINT(map_flags, BPF_F_NO_PREALLOC); /* memory for the connections that there are, not for those that could be */
    UINT(max_entries, 2);
    TYPE(key, struct key);
    TYPE(value, struct flow);
} flows SEC(".maps");

struct {
    UINT(type, BPF_MAP_TYPE_ARRAY);
    UINT(max_entries, 1);
    TYPE(key, __u32);
    TYPE(value, struct connection);
} connections SEC(".maps");

struct {
    UINT(type, BPF_MAP_TYPE_ARRAY);
    UINT(map_flags, BPF_F_MMAPABLE);
    UINT(max_entries, 1);
    TYPE(key, __u32);
    TYPE(value, struct handled);
} handled SEC(".maps");

struct {
    UINT(type, BPF_MAP_TYPE_ARRAY);
    UINT(max_entries, 1);
    TYPE(key, __u32);
    TYPE(value, struct settings);
} settings SEC(".maps");

/* Rings of their own, so that samples never take the room of events. */
struct {
    UINT(type, BPF_MAP_TYPE_RINGBUF);
    UINT(max_entries, 256 * 1024);
} events SEC(".maps");

struct {
    UINT(type, BPF_MAP_TYPE_RINGBUF);
    UINT(max_entries, 256 * 1024);
} samples SEC(".maps");

const volatile __u32 facts[] SEC(".rodata") = {
    LAYOUT,
    sizeof(struct key), sizeof(struct flow), sizeof(struct connection), sizeof(struct handled), sizeof(struct settings),
    sizeof(struct ended), sizeof(struct sample), SNAP,
    offsetof(struct key, ends.source_port), offsetof(struct key, version),
    offsetof(struct flow, addresses_differ), offsetof(struct flow, row), offsetof(struct flow, direction),
    offsetof(struct connection, seen), offsetof(struct connection, sides[0]), offsetof(struct connection, sides[1]),
    offsetof(struct side, following), offsetof(struct side, shift), offsetof(struct connection, opened),
    offsetof(struct connection, identity), offsetof(struct connection, passed), offsetof(struct connection, state),
    offsetof(struct connection, changing), offsetof(struct connection, passes), offsetof(struct handled, following),
    offsetof(struct handled, edge),
    INIT, SYN_RECEIVED, ESTABLISHED, CLIENT_FIN, SERVER_FIN, BOTH_FIN, TRANS, BOTH_WAYS,
};

/* ---- A packet --------------------------------------------------------------------------------------------------- */

enum kind { DATAGRAM, DATA, FIN, RST, SYN_ACK };

/* What is known of a packet once it was read. Where its headers are follows from its IP version. */
struct packet {
    struct key key;
    __u32 size;      /* of the IP packet; of a stream that was not cut up yet, of one segment of it */
    __u32 transport; /* size of what IP carries: transport header and payload */
    __u32 payload;
    __u32 sequence;
    __u32 acknowledged;
    __u32 window;
    __u32 flow_label; /* of IPv6: traffic class and flow label, which a route may depend on */
    __u16 checksum;
    __u16 identification; /* of IPv4 */
    __u8 service;         /* of IPv4: the type of service, for the same reason */
    __u8 kind;
    __u8 has_acknowledged;
    __u8 offered; /* of a SYN: one more than the window scale that it offers, or 0 */
};

INLINE __u32 network_size(__u8 version)
{
    return version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
}

INLINE __u32 transport_at(__u8 version)
{
    return ETH_HLEN + network_size(version);
}

INLINE __u16 folded(__u64 sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

/* Whether the first `size` bytes lie where they can be read directly. Some drivers leave all but a few elsewhere. */
INLINE int reaches(struct __sk_buff *skb, __u32 size)
{
    if ((void *)(long)skb->data + size <= (void *)(long)skb->data_end)
        return 1;
    return skb_pull_data(skb, size) == 0;
}

INLINE int read_ipv4(struct __sk_buff *skb, struct packet *packet)
{
    struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN;
    if ((void *)(ip + 1) > (void *)(long)skb->data_end)
        return 0;
    /* No options, no fragment, a hop to go: and what the kernel would throw away is left to it. */
    if (ip->version != 4 || ip->ihl != 5 || ip->frag_off & NET16(0x3fff) || ip->ttl <= 1)
        return 0;
    const __u32 *words = (void *)ip;
    if (folded((__u64)words[0] + words[1] + words[2] + words[3] + words[4]) != 0xffff)
        return 0;
    packet->size = NET16(ip->tot_len);
    packet->service = ip->tos;
    packet->identification = NET16(ip->id);
    packet->key.version = 4;
    packet->key.protocol = ip->protocol;
    packet->key.ends.source[0] = ip->saddr;
    packet->key.ends.destination[0] = ip->daddr;
    return 1;
}

INLINE int read_ipv6(struct __sk_buff *skb, struct packet *packet)
{
    struct ipv6hdr *ip = (void *)(long)skb->data + ETH_HLEN;
    if ((void *)(ip + 1) > (void *)(long)skb->data_end)
        return 0;
    if (ip->version != 6 || ip->hop_limit <= 1)
        return 0;
    packet->size = sizeof(*ip) + NET16(ip->payload_len);
    packet->flow_label = *(__u32 *)ip & NET32(0x0fffffff);
    packet->key.version = 6;
    packet->key.protocol = ip->nexthdr; /* an extension header is no protocol that is known here */
    PACKED_COPY(packet->key.ends.source, &ip->saddr);
    PACKED_COPY(packet->key.ends.destination, &ip->daddr);
    return 1;
}

enum { LONGEST_OPTIONS = 40, END_OF_OPTIONS = 0, NO_OPTION = 1, WINDOW_SCALE = 3, LARGEST_SCALE = 14 };

/* 1 or 0, of numbers below 2**31, without a branch. */
#define IS_LESS(one, other) ((__u32)((one) - (other)) >> 31)
#define IS_EQUAL(one, other) IS_LESS((__u32)((one) ^ (other)), 1)

/* Return one more than the window scale that a SYN offers, or 0: natlb/core/packet.py, PacketView.option.
 *
 * The verifier follows every way through a program, and options are a loop with three branches: forty times three ways
 * are too many. So this goes one way whatever it finds, and `alive` says whether it would have left the loop. */
INLINE __u8 offered_scale(struct __sk_buff *skb, __u32 from, __u32 size)
{
    __u8 options[LONGEST_OPTIONS + 24] = {}; /* with as much behind as an index may go astray that is cut to 6 bits */
    __u32 at = 0, alive = 1, offered = 0;
    if (size < 1 || size > LONGEST_OPTIONS || skb_load_bytes(skb, from, options, size))
        return 0;
    for (int step = 0; step < LONGEST_OPTIONS; step++) {
        __u32 kind = options[at & 63], length = options[(at + 1) & 63], scale = options[(at + 2) & 63];
        __u32 is_filler = IS_EQUAL(kind, NO_OPTION);
        __u32 is_bad = IS_EQUAL(kind, END_OF_OPTIONS) | IS_LESS(size, at + 2) | IS_LESS(length, 2);
        alive &= IS_LESS(at, size) & (is_filler | (is_bad ^ 1));
        __u32 is_it = alive & IS_EQUAL(kind, WINDOW_SCALE) & IS_EQUAL(length, 3) & (IS_LESS(size, at + 3) ^ 1);
        offered += is_it * (scale + 1);
        alive &= is_it ^ 1;
        at += is_filler + (is_filler ^ 1) * length;
    }
    return offered <= LARGEST_SCALE ? offered : LARGEST_SCALE + 1;
}

INLINE int read_tcp(struct __sk_buff *skb, struct packet *packet, __u8 version)
{
    struct tcphdr *tcp = (void *)(long)skb->data + transport_at(version);
    if ((void *)(tcp + 1) > (void *)(long)skb->data_end)
        return 0;
    __u32 header = tcp->doff * 4;
    if (header < sizeof(*tcp) || header > packet->transport)
        return 0;
    /* As segment_of in natlb/core/tcp.py; what opens a connection, and what no host sends, is the engine's. */
    if (tcp->syn) {
        if (!tcp->ack || tcp->fin || tcp->rst || tcp->urg)
            return 0;
        packet->kind = SYN_ACK;
    } else if (tcp->rst) {
        if (tcp->fin || tcp->urg)
            return 0;
        packet->kind = RST;
    } else {
        if (!tcp->ack)
            return 0;
        packet->kind = tcp->fin ? FIN : DATA;
    }
    packet->has_acknowledged = tcp->ack;
    packet->key.ends.source_port = tcp->source;
    packet->key.ends.destination_port = tcp->dest;
    packet->payload = packet->transport - header;
    packet->sequence = NET32(tcp->seq);
    packet->acknowledged = NET32(tcp->ack_seq);
    packet->window = NET16(tcp->window);
    packet->checksum = tcp->check;
    if (skb->gso_size)
        packet->size = network_size(version) + header + skb->gso_size;
    if (packet->kind == SYN_ACK) /* the last step: the headers cannot be read directly any more */
        packet->offered = offered_scale(skb, transport_at(version) + sizeof(*tcp), header - sizeof(*tcp));
    return 1;
}

INLINE int read_udp(struct __sk_buff *skb, struct packet *packet, __u8 version)
{
    struct udphdr *udp = (void *)(long)skb->data + transport_at(version);
    if ((void *)(udp + 1) > (void *)(long)skb->data_end)
        return 0;
    __u32 length = NET16(udp->len);
    if (length < sizeof(*udp) || length > packet->transport)
        return 0;
    if (version == 6 && !udp->check) /* RFC 8200, section 8.1: there must be one */
        return 0;
    packet->kind = DATAGRAM;
    packet->key.ends.source_port = udp->source;
    packet->key.ends.destination_port = udp->dest;
    packet->payload = packet->transport - sizeof(*udp);
    if (skb->gso_size)
        packet->size = network_size(version) + sizeof(*udp) + skb->gso_size;
    return 1;
}

/* Read a packet; return whether it is one for the fast path, if its tuple is known. */
INLINE int read(struct __sk_buff *skb, struct packet *packet, __u8 version)
{
    __u32 transport_header;
    if (!reaches(skb, transport_at(version)))
        return 0;
    if (!(version == 4 ? read_ipv4(skb, packet) : read_ipv6(skb, packet)))
        return 0;
    if (packet->key.protocol == IPPROTO_TCP)
        transport_header = sizeof(struct tcphdr);
    else if (packet->key.protocol == IPPROTO_UDP)
        transport_header = sizeof(struct udphdr);
    else
        return 0;
    /* Behind the packet there may be padding, but nothing of it may be missing. */
    if (packet->size > skb->len - ETH_HLEN || packet->size < network_size(version) + transport_header)
        return 0;
    packet->transport = packet->size - network_size(version);
    if (!reaches(skb, transport_at(version) + transport_header))
        return 0;
    return packet->key.protocol == IPPROTO_TCP ? read_tcp(skb, packet, version) : read_udp(skb, packet, version);
}

/* ---- Where to ---------------------------------------------------------------------------------------------------- */

/* Ask the kernel where it would send the packet once it is rewritten. It says no for a destination on this machine,
 * one without a route, one that is not allowed to pass, one whose neighbour it has to look for first, and for a packet
 * that does not fit: all those are for the kernel's own forwarding, which knows what to do. */
INLINE int route(struct __sk_buff *skb, const struct packet *packet, const struct flow *flow,
                 struct bpf_fib_lookup *way)
{
    __u32 first = 0, family = packet->key.version == 6;
    const struct settings *wanted = map_lookup(&settings, &first);
    if (packet->size > 0xffff || !wanted) /* more than the question has room for */
        return 0;
    /* The kernel's forwarding keeps to the MTU of a route, and its answer to us to that of the interface alone. */
    __u32 narrowest = family ? wanted->narrowest[1] : wanted->narrowest[0];
    if (narrowest && packet->size > narrowest)
        return 0;
    way->ifindex = skb->ifindex;
    way->l4_protocol = packet->key.protocol;
    way->sport = flow->becomes.source_port;
    way->dport = flow->becomes.destination_port;
    way->tot_len = packet->size;
    if (packet->key.version == 4) {
        way->family = 2; /* AF_INET */
        way->tos = packet->service;
        way->ipv4_src = flow->becomes.source[0];
        way->ipv4_dst = flow->becomes.destination[0];
    } else {
        way->family = 10; /* AF_INET6 */
        way->flowinfo = packet->flow_label;
        PACKED_COPY(way->ipv6_src, flow->becomes.source);
        PACKED_COPY(way->ipv6_dst, flow->becomes.destination);
    }
    return fib_lookup(skb, way, sizeof(*way), 0) == BPF_FIB_LKUP_RET_SUCCESS;
}

/* ---- The connection ---------------------------------------------------------------------------------------------- */

#define BEYOND 0x80000000 /* "beyond" means by less than half of all numbers: RFC 9293, section 3.4 */

enum { CHECKED_AT_MOST = 128 };

/* Whether the checksum of a segment that would move the state is right: it is, if it is only begun, which means that
 * the segment has met nothing that could spoil it, or if the network card says so, or if its sum is right. To sum up
 * much would take long: a segment with data besides is the engine's then. */
INLINE int is_sound(struct __sk_buff *skb, const struct packet *packet, __u8 version)
{
    const struct ends *ends = &packet->key.ends;
    __u8 bytes[CHECKED_AT_MOST] = {};
    __u64 pseudo = (__u64)NET32(packet->transport) + NET32((__u32)packet->key.protocol);
    for (int word = 0; word < (version == 4 ? 1 : 4); word++)
        pseudo += (__u64)ends->source[word] + ends->destination[word];
    __u16 begun = folded(pseudo);
    if (packet->checksum == begun || csum_level(skb, BPF_CSUM_LEVEL_QUERY) >= 0)
        return 1;
    __u32 size = packet->transport;
    asm volatile("" : "+r"(size)); /* or the compiler takes the next two lines for granted, and the verifier does not */
    if (size < sizeof(struct tcphdr) || size > CHECKED_AT_MOST)
        return 0;
    if (skb_load_bytes(skb, transport_at(version), bytes, size))
        return 0;
    return folded((__u32)csum_diff(0, 0, (__be32 *)bytes, sizeof(bytes), begun)) == 0xffff;
}

/* natlb/core/window.py, Window.allows */
INLINE int is_allowed(__u32 end, const struct side *peer)
{
    return end - peer->acked < BEYOND && end - peer->edge - 2 >= BEYOND;
}

/* natlb/core/window.py, Window.answers */
INLINE int is_answer(const struct packet *packet, const struct side *mine, const struct side *peer)
{
    return packet->has_acknowledged && packet->acknowledged - mine->acked < BEYOND &&
           packet->acknowledged - peer->following - 1 >= BEYOND;
}

/* natlb/core/window.py, Window.open, of the answer to the SYN that the connection was entered with */
INLINE void open_window(const struct packet *packet, __u32 end, struct side *mine, struct side *peer)
{
    __u32 size = peer->edge - peer->acked;
    mine->following = end;
    mine->acked = packet->acknowledged;
    mine->edge = packet->acknowledged + packet->window;
    mine->offered = packet->offered;
    peer->acked = packet->sequence + 1;
    peer->edge = packet->sequence + 1 + size;
    mine->shift = mine->offered && peer->offered ? mine->offered - 1 : 0;
    peer->shift = mine->offered && peer->offered ? peer->offered - 1 : 0;
}

/* natlb/core/window.py, Window.follow */
INLINE __u32 follow(const struct packet *packet, __u32 end, struct side *mine, const struct side *peer)
{
    __u32 fresh = end - mine->following;
    if (fresh - 1 < BEYOND && end - peer->edge - 2 >= BEYOND) {
        mine->following = end;
        fresh -= packet->kind == FIN;
    } else {
        fresh = 0;
    }
    if (packet->has_acknowledged && packet->acknowledged - peer->following - 1 >= BEYOND) {
        __u32 edge = packet->acknowledged + (packet->window << mine->shift);
        if (packet->acknowledged - mine->acked < BEYOND)
            mine->acked = packet->acknowledged;
        if (edge - mine->edge < BEYOND)
            mine->edge = edge;
    }
    return fresh;
}

/* natlb/core/tcp.py, TRANSITIONS, as far as they lead straight from a SYN to the end. All else is not PLAIN: what comes
 * again or out of turn while a connection is opened, what follows a RST, a RST that follows the end. There are rules for
 * that which only the engine has. */
enum { NOT_PLAIN = 0xff };

INLINE __u8 next_state(__u8 state, __u8 kind, __u8 direction)
{
    switch (state) {
    case INIT:
        return kind == SYN_ACK && direction == REPLY ? SYN_RECEIVED : NOT_PLAIN;
    case SYN_RECEIVED:
        return kind == DATA && direction == ORIGINAL ? ESTABLISHED : NOT_PLAIN;
    case ESTABLISHED:
    case CLIENT_FIN:
    case SERVER_FIN:
        if (kind == RST)
            return TRANS;
        if (kind == SYN_ACK)
            return NOT_PLAIN;
        if (kind == DATA || state == (direction == ORIGINAL ? CLIENT_FIN : SERVER_FIN))
            return state;
        if (state == ESTABLISHED)
            return direction == ORIGINAL ? CLIENT_FIN : SERVER_FIN;
        return BOTH_FIN;
    case BOTH_FIN:
        return kind == DATA || kind == FIN ? BOTH_FIN : NOT_PLAIN;
    case BOTH_WAYS:
        return kind == DATAGRAM ? BOTH_WAYS : NOT_PLAIN;
    }
    return NOT_PLAIN;
}

/* Count a packet, and let it move the window and the state; return whether it is one for the fast path. Then `ends` is
 * whether the connection is over with it. `sound` need only be right for what moves the state. Both directions may be
 * here at once, on two processors: so all of it happens under the lock of the connection, and Python reads under the
 * same one. */
INLINE int record(const struct packet *packet, const struct flow *flow, struct connection *connection, int sound,
                  __u64 now, int *ends)
{
    __u8 direction = flow->direction & 1;
    struct side *mine = direction ? &connection->sides[1] : &connection->sides[0];
    struct side *peer = direction ? &connection->sides[0] : &connection->sides[1];
    __u32 end = packet->sequence + packet->payload + (packet->kind == FIN || packet->kind == SYN_ACK);
    __u32 fresh = 0;
    int taken = 0;

    spin_lock(&connection->lock);
    __u8 state = connection->state;
    __u8 next = next_state(state, packet->kind, direction);
    /* The flow may have been taken away, and its row given to another connection, while we were on our way here. */
    if (connection->generation != flow->generation || next == NOT_PLAIN)
        goto out;
    if (next != state) {
        /* Whoever cannot see the connection must not move its state: natlb/core/engine.py, _is_genuine. */
        if (!sound || !(state <= SYN_RECEIVED ? is_answer(packet, mine, peer) : is_allowed(end, peer)))
            goto out;
        if (next == TRANS)
            connection->before = state;
        connection->state = next;
        connection->by = direction;
    }
    if (packet->kind == DATAGRAM) {
        fresh = packet->payload;
    } else if (packet->kind == SYN_ACK) {
        open_window(packet, end, mine, peer);
        connection->answered = now;
    } else if (packet->kind != RST) {
        fresh = follow(packet, end, mine, peer);
    }
    mine->packets++;
    mine->octets += fresh;
    connection->seen = now;
    taken = 1;
out:
    spin_unlock(&connection->lock);
    *ends = taken && next != state && (next == BOTH_FIN || next == TRANS);
    return taken;
}

/* Say that a connection is over. Where there is no room for that, it is found at the next reading. */
INLINE void tell_end(const struct flow *flow)
{
    struct ended *event = ringbuf_reserve(&events, sizeof(*event), 0);
    if (event) {
        event->row = flow->row;
        event->generation = flow->generation;
        ringbuf_submit(event, 0);
    }
}

/* ---- In turn ----------------------------------------------------------------------------------------------------- */

enum { FINGERPRINTED = 64 };
#define PRIME 0xfffffffb /* the largest below 2**32 */

/* Return what tells a packet from others of its flow, to us and to the engine alike: a remainder of its identification,
 * its size and the first bytes behind its IP header, as one number. natlb/core/offloading.py, fingerprint */
INLINE __u32 fingerprint(struct __sk_buff *skb, const struct packet *packet, __u8 version)
{
    __u32 words[FINGERPRINTED / 4] = {}, size = packet->transport;
    __u64 number = ((__u64)packet->identification << 16 | (packet->transport & 0xffff)) % PRIME;
    if (size > FINGERPRINTED)
        size = FINGERPRINTED;
    asm volatile("" : "+r"(size)); /* or the compiler takes the next line for granted, and the verifier does not */
    if (size < sizeof(struct udphdr) || size > FINGERPRINTED || skb_load_bytes(skb, transport_at(version), words, size))
        return PRIME;
    for (int word = 0; word < FINGERPRINTED / 4; word++)
        number = (number << 32 | NET32(words[word])) % PRIME;
    return number;
}

INLINE void take_over(struct side *side, const volatile struct handled *theirs, int number)
{
    side->following = theirs->following[number];
    side->acked = theirs->acked[number];
    side->edge = theirs->edge[number];
}

/* Whether a packet may be carried, or has to follow others of its direction to the engine, which would be overtaken.
 *
 * The queue to the engine keeps its order, so there is none between us any more once the last that was passed on is the
 * last that has left the engine. Of TCP both directions change over together, because the window takes numbers of both.
 * Where something comes all the time, or something was lost, the moment never comes. When patience is at its end, by
 * the clock or because more packets would find no room in the queue, each direction changes over with its next packet,
 * and overtakes what is still under way; that has nothing to say any more which the next packet does not say. Numbers
 * of a direction are the engine's until it has changed over. */
INLINE int is_in_turn(struct __sk_buff *skb, const struct packet *packet, const struct flow *flow,
                      struct connection *connection, __u64 now, __u8 version)
{
    __u8 direction = flow->direction & 1, mine = 1 << direction;
    int in_turn = 0, is_tcp = packet->key.protocol == IPPROTO_TCP;
    if (!(*(volatile __u8 *)&connection->changing & (is_tcp ? BOTH_CHANGING : mine)))
        return 1;
    __u32 number = fingerprint(skb, packet, version);
    const volatile struct handled *theirs = map_lookup(&handled, &flow->row);
    if (!theirs)
        return 0;
    __u32 *passed = direction ? &connection->passed[1] : &connection->passed[0];
    __u32 *peer_passed = direction ? &connection->passed[0] : &connection->passed[1];
    const volatile __u32 *left = direction ? &theirs->last[1] : &theirs->last[0];
    const volatile __u32 *peer_left = direction ? &theirs->last[0] : &theirs->last[1];

    spin_lock(&connection->lock);
    if (connection->generation != flow->generation)
        goto out;
    __u8 changing = connection->changing;
    in_turn = !(changing & mine);
    if (!in_turn && *passed == *left && (!is_tcp || *peer_passed == *peer_left)) {
        in_turn = 1;
        connection->changing &= is_tcp ? 0 : ~mine;
    } else if (!in_turn && (now >= connection->patience || !connection->passes)) {
        in_turn = 1;
        connection->changing = (changing & ~mine) | OUT_OF_TURN;
    } else if (!in_turn) {
        *passed = number;
        connection->passes--;
    }
    if (in_turn && is_tcp && changing & 1)
        take_over(&connection->sides[0], theirs, 0);
    if (in_turn && is_tcp && changing & 2)
        take_over(&connection->sides[1], theirs, 1);
out:
    spin_unlock(&connection->lock);
    return in_turn;
}

/* ---- Rewriting --------------------------------------------------------------------------------------------------- */

/* The transport checksum is moved by the kernel's own helper, because only the kernel knows whether it is finished: one
 * that is only begun covers the addresses and not yet the ports. */
INLINE int move_checksum(struct __sk_buff *skb, const struct flow *flow, __u8 version, __u8 protocol)
{
    __u32 at = transport_at(version);
    __u64 flags = 0;
    if (protocol == IPPROTO_UDP) {
        at += offsetof(struct udphdr, check);
        flags = BPF_F_MARK_MANGLED_0; /* 0 says that there is none, and stays; none becomes 0 (RFC 768) */
    } else {
        at += offsetof(struct tcphdr, check);
    }
    if (l4_csum_replace(skb, at, 0, flow->addresses_differ, flags | BPF_F_PSEUDO_HDR))
        return 0;
    return !flow->ports_differ || l4_csum_replace(skb, at, 0, flow->ports_differ, flags) == 0;
}

INLINE int rewrite_ipv4(struct __sk_buff *skb, const struct flow *flow, const struct bpf_fib_lookup *way,
                        __u8 protocol)
{
    struct ethhdr *link = (void *)(long)skb->data;
    struct iphdr *ip = (void *)(link + 1);
    __u16 *ports = (void *)(ip + 1);
    if ((void *)(ports + 2) > (void *)(long)skb->data_end)
        return 0;
    PACKED_COPY(link->h_dest, way->dmac);
    PACKED_COPY(link->h_source, way->smac);
    /* The TTL is the upper half of its word: one less of it is 0x0100 less. */
    ip->check = ~folded((__u64)(__u16)~ip->check + flow->addresses_differ + NET16((__u16)~0x0100));
    ip->ttl--;
    ip->saddr = flow->becomes.source[0];
    ip->daddr = flow->becomes.destination[0];
    ports[0] = flow->becomes.source_port;
    ports[1] = flow->becomes.destination_port;
    return move_checksum(skb, flow, 4, protocol);
}

/* The part of an IPv6 header that changes, from an even offset: sums are of words. */
struct ipv6_changed {
    __u8 nexthdr;
    __u8 hop_limit;
    __u32 source[4];
    __u32 destination[4];
} __attribute__((packed));

INLINE int rewrite_ipv6(struct __sk_buff *skb, const struct flow *flow, const struct bpf_fib_lookup *way,
                        __u8 protocol)
{
    struct ethhdr *link = (void *)(long)skb->data;
    struct ipv6hdr *ip = (void *)(link + 1);
    __u16 *ports = (void *)(ip + 1);
    struct ipv6_changed changed;
    if ((void *)(ports + 2) > (void *)(long)skb->data_end)
        return 0;
    PACKED_COPY(link->h_dest, way->dmac);
    PACKED_COPY(link->h_source, way->smac);
    ports[0] = flow->becomes.source_port;
    ports[1] = flow->becomes.destination_port;
    changed.nexthdr = ip->nexthdr;
    changed.hop_limit = ip->hop_limit - 1;
    PACKED_COPY(changed.source, flow->becomes.source);
    PACKED_COPY(changed.destination, flow->becomes.destination);
    /* A network card may have summed up the whole packet. IPv4 has a header checksum that keeps that sum as it is;
     * here it has to be told of what changes, but for the addresses and the checksum that balances them: the helper
     * below takes their difference off again (bpf_l4_csum_replace, since it was made for IPv4). */
    if (skb_store_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, nexthdr), &changed, sizeof(changed),
                        BPF_F_RECOMPUTE_CSUM))
        return 0;
    return move_checksum(skb, flow, 6, protocol);
}

/* ---- The audit --------------------------------------------------------------------------------------------------- */

INLINE void copy_packet(struct __sk_buff *skb, __u8 *to, __u32 size)
{
    asm volatile("" : "+r"(size)); /* or the compiler takes what follows for granted, and the verifier does not */
    if (size >= 1 && size <= SNAP)
        skb_load_bytes(skb, ETH_HLEN, to, size);
}

/* Copy one packet in so many as it is now; its rewriting is added by the caller. */
INLINE struct sample *begin_sample(struct __sk_buff *skb, const struct flow *flow)
{
    __u32 first = 0, size = skb->len - ETH_HLEN;
    const struct settings *wanted = map_lookup(&settings, &first);
    if (!wanted || !wanted->sampled || get_prandom_u32() > wanted->sampled)
        return 0;
    struct sample *sample = ringbuf_reserve(&samples, sizeof(*sample), 0);
    if (!sample)
        return 0;
    sample->row = flow->row;
    sample->generation = flow->generation;
    sample->size = size;
    sample->copied = size > SNAP ? SNAP : size;
    sample->direction = flow->direction;
    copy_packet(skb, sample->before, sample->copied);
    return sample;
}

/* ---- One packet's way -------------------------------------------------------------------------------------------- */

INLINE int carry(struct __sk_buff *skb, __u8 version)
{
    struct packet packet = {};
    struct bpf_fib_lookup way = {};
    int ends = 0;

    if (!read(skb, &packet, version))
        return TC_ACT_UNSPEC;
    struct flow *flow = map_lookup(&flows, &packet.key);
    if (!flow)
        return TC_ACT_UNSPEC;
    struct connection *connection = map_lookup(&connections, &flow->row);
    __u64 now = ktime_get_ns();
    if (!connection || !is_in_turn(skb, &packet, flow, connection, now, version) || !route(skb, &packet, flow, &way))
        return TC_ACT_UNSPEC;
    int moves = packet.kind > DATA || connection->state == SYN_RECEIVED;
    int sound = moves && is_sound(skb, &packet, version);
    if (!record(&packet, flow, connection, sound, now, &ends))
        return TC_ACT_UNSPEC;
    if (ends)
        tell_end(flow);

    struct sample *sample = begin_sample(skb, flow);
    int written = version == 4 ? rewrite_ipv4(skb, flow, &way, packet.key.protocol)
                               : rewrite_ipv6(skb, flow, &way, packet.key.protocol);
    if (sample) {
        copy_packet(skb, sample->after, sample->copied);
        ringbuf_submit(sample, 0);
    }
    return written ? redirect(way.ifindex, 0) : TC_ACT_SHOT;
}

SEC("tc")
int natlb(struct __sk_buff *skb)
{
    /* What is not addressed to this machine, link-layer wise, is none of ours, and what is still in a VLAN comes by
     * again at that VLAN's own interface. */
    if (skb->pkt_type != PACKET_HOST || skb->vlan_present)
        return TC_ACT_UNSPEC;
    if (skb->protocol == NET16(ETH_P_IP))
        return carry(skb, 4);
    if (skb->protocol == NET16(ETH_P_IPV6))
        return carry(skb, 6);
    return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "GPL";
