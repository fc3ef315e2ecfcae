/*
 * The bench's Claude API: one thread, epoll, answers made ahead.
 *
 *   upstream PACE_MS
 *
 * It prints its port on 127.0.0.1. GET is answered with a list of models; POST with a message of about 250 bytes, or,
 * if the body says "stream":true, with events that never end, one each PACE_MS. Each event holds the time at which it
 * was sent (@ and 19 digits, CLOCK_MONOTONIC in ns). The body may say "pace_us":N for a pace of its own, 0 for a stream
 * that is silent once it has begun, or "flood":N for N bytes of events as fast as the socket takes them. Every answer
 * has the headers that the real API sends. Requests have a Content-Length or no body; more than this is not spoken here.
 *
 * For the bench itself: GET /bench/sent answers with the bytes of floods that were sent. GET /bench/watch answers with
 * a line `closed NS` for each stream whose connection ends from then on.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LONGEST_S 900     /* nobody runs it for longer; it ends by itself then */
#define MAX_FD 65536
#define MAX_REQUEST 32768 /* kept of a request, which is about 1.5 KB; what is longer is counted only */
#define STAMP_DIGITS 19

typedef struct {
    size_t have, received, whole; /* kept and received of the request, and its length once the head is there, else 0 */
    int streams, watches;
    long long pace_ns;    /* of its events; 0: silent */
    long long due_ns;     /* of the next event */
    long long flood_left; /* bytes */
    int rest, rest_at;    /* what the socket did not take of the last event */
    char event[512];
    char data[MAX_REQUEST];
} Connection;

static Connection *connections[MAX_FD];
static int highest_fd, poller;
static long answers, sent;
static long long usual_pace_ns;
static time_t began;

static const char MODELS[] =
    "{\"data\":[{\"type\":\"model\",\"id\":\"claude-sonnet-5\",\"display_name\":\"Claude Sonnet 5\","
    "\"created_at\":\"2026-01-01T00:00:00Z\"}],\"has_more\":false,\"first_id\":\"claude-sonnet-5\","
    "\"last_id\":\"claude-sonnet-5\"}";
static const char MESSAGE[] =
    "{\"id\":\"msg_%024ld\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-5\","
    "\"content\":[{\"type\":\"text\",\"text\":\"Hello\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,"
    "\"usage\":{\"input_tokens\":230,\"output_tokens\":5}}";
static const char STREAM_START[] =
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_%024ld\",\"type\":\"message\","
    "\"role\":\"assistant\",\"model\":\"claude-sonnet-5\",\"content\":[],\"stop_reason\":null,"
    "\"stop_sequence\":null,\"usage\":{\"input_tokens\":230,\"output_tokens\":1}}}\n\n"
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,"
    "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
static const char EVENT[] =
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,"
    "\"delta\":{\"type\":\"text_delta\",\"text\":\"@0000000000000000000 a few words\"}}\n\n";
static char event_chunk[512], flood[64 * 512];
static int event_length, stamp_at, flood_length;

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void drop(int fd) {
    char line[64];
    int length = snprintf(line, sizeof line, "closed %lld\n", now_ns());
    for (int each = 0; connections[fd]->streams && each <= highest_fd; each++)
        if (connections[each] != NULL && connections[each]->watches) send(each, line, length, MSG_NOSIGNAL);
    free(connections[fd]);
    connections[fd] = NULL;
    close(fd);
}

static void want(int fd, unsigned what) {
    struct epoll_event event = {.events = what, .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event);
}

/* False where the peer takes no more: with answers this small it is broken. */
static int say(int fd, const char *data, int length) {
    return send(fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL) == length;
}

static int head(char *out, size_t room, const char *type, const char *framing) {
    static char date[40];
    static time_t written;
    time_t now = time(NULL);
    if (now != written) strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
    written = now;
    double used = 0.1 + answers / 500 % 800 / 1000.0; /* it rises, as it does for real */
    return snprintf(
        out, room,
        "HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Type: %s\r\n%s\r\nConnection: keep-alive\r\n"
        "anthropic-ratelimit-unified-status: allowed\r\n"
        "anthropic-ratelimit-unified-5h-status: allowed\r\n"
        "anthropic-ratelimit-unified-5h-reset: %ld\r\n"
        "anthropic-ratelimit-unified-5h-utilization: %.3f\r\n"
        "anthropic-ratelimit-unified-7d-status: allowed\r\n"
        "anthropic-ratelimit-unified-7d-reset: %ld\r\n"
        "anthropic-ratelimit-unified-7d-utilization: %.3f\r\n"
        "anthropic-ratelimit-unified-representative-claim: five_hour\r\n"
        "anthropic-ratelimit-unified-fallback-percentage: 0.5\r\n"
        "anthropic-ratelimit-unified-reset: %ld\r\n"
        "anthropic-ratelimit-unified-overage-disabled-reason: org_level_disabled\r\n"
        "anthropic-ratelimit-unified-overage-status: rejected\r\n"
        "request-id: req_%024ld\r\n"
        "strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n"
        "anthropic-organization-id: 0b9c3f52-6d1e-4a5e-9c57-2f8a4f0f7a11\r\n"
        "server: cloudflare\r\nx-envoy-upstream-service-time: 12\r\nvia: 1.1 google\r\n"
        "cf-cache-status: DYNAMIC\r\nx-robots-tag: none\r\ncf-ray: 9a%014ld-FRA\r\n\r\n",
        date, type, framing, (long)began + 9000, used, (long)began + 300000, used / 2, (long)began + 9000, answers,
        answers);
}

static int answer_whole(int fd, const char *body, int length) {
    char out[4096], framing[64];
    snprintf(framing, sizeof framing, "Content-Length: %d", length);
    int at = head(out, sizeof out, "application/json", framing);
    memcpy(out + at, body, length);
    return say(fd, out, at + length);
}

/* The number after `name` in the body, or `otherwise`. */
static long long number(const char *body, const char *name, long long otherwise) {
    const char *at = strstr(body, name);
    return at ? atoll(at + strlen(name)) : otherwise;
}

/* Send the next event, unless the socket still holds the one before: then this one is skipped. False if broken. */
static int say_event(int fd) {
    Connection *connection = connections[fd];
    if (!connection->rest) {
        char stamp[32];
        memcpy(connection->event, event_chunk, event_length);
        snprintf(stamp, sizeof stamp, "%0*lld", STAMP_DIGITS, now_ns());
        memcpy(connection->event + stamp_at, stamp, STAMP_DIGITS);
        connection->rest = event_length;
        connection->rest_at = 0;
    }
    ssize_t took = send(fd, connection->event + connection->rest_at, connection->rest, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (took < 0) return errno == EAGAIN;
    connection->rest -= took;
    connection->rest_at += took;
    return 1;
}

/* Send of a flood what the socket takes now. False if broken. */
static int pour(int fd) {
    Connection *connection = connections[fd];
    while (connection->flood_left > 0) {
        int from = (int)(connection->received % flood_length);
        ssize_t took = send(fd, flood + from, flood_length - from, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (took < 0) return errno == EAGAIN;
        connection->received += took;
        connection->flood_left -= took;
        sent += took;
    }
    want(fd, EPOLLIN);
    return 1;
}

static int begin_stream(int fd, const char *body) {
    Connection *connection = connections[fd];
    char out[4096], first[1024];
    int length = snprintf(first, sizeof first, STREAM_START, answers);
    int at = head(out, sizeof out, "text/event-stream; charset=utf-8",
                  "Cache-Control: no-cache\r\nTransfer-Encoding: chunked");
    at += snprintf(out + at, sizeof out - at, "%x\r\n%s\r\n", length, first);
    connection->streams = 1;
    connection->flood_left = number(body, "\"flood\":", 0);
    connection->pace_ns = connection->flood_left ? 0 : number(body, "\"pace_us\":", usual_pace_ns / 1000) * 1000;
    /* Streams are out of step with each other, as they are for real. */
    connection->due_ns = now_ns() + connection->pace_ns * (answers * 7919 % 1000) / 1000;
    if (connection->flood_left) want(fd, EPOLLIN | EPOLLOUT);
    return say(fd, out, at);
}

static int answer_bench(int fd, const char *path) {
    static const char WATCH[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";
    char text[32];
    if (!strncmp(path, "sent", 4)) return answer_whole(fd, text, snprintf(text, sizeof text, "%ld", sent));
    connections[fd]->watches = 1;
    return say(fd, WATCH, sizeof WATCH - 1);
}

static int answer(int fd, const char *body) {
    char message[1024];
    answers++;
    if (!strncmp(connections[fd]->data, "GET /bench/", 11)) return answer_bench(fd, connections[fd]->data + 11);
    if (!strncmp(connections[fd]->data, "GET ", 4)) return answer_whole(fd, MODELS, sizeof MODELS - 1);
    if (strstr(body, "\"stream\":true")) return begin_stream(fd, body);
    return answer_whole(fd, message, snprintf(message, sizeof message, MESSAGE, answers));
}

/* Take what has come, and answer where the request is whole. False where the connection is over. */
static int hear(int fd) {
    static char beyond[262144];
    Connection *connection = connections[fd];
    int kept = connection->have < MAX_REQUEST - 1;
    ssize_t got = kept ? recv(fd, connection->data + connection->have, MAX_REQUEST - 1 - connection->have, MSG_DONTWAIT)
                       : recv(fd, beyond, sizeof beyond, MSG_DONTWAIT);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    connection->received += got;
    if (kept) connection->have += got;
    connection->data[connection->have] = 0;
    char *end = strstr(connection->data, "\r\n\r\n");
    if (end == NULL) return kept;
    if (!connection->whole) {
        *end = 0;
        char *said = strcasestr(connection->data, "\r\ncontent-length:");
        *end = '\r';
        connection->whole = end + 4 - connection->data + (said ? strtoul(said + 17, NULL, 10) : 0);
    }
    if (connection->received < connection->whole) return 1;
    if (connection->received > connection->whole) return 0; /* nobody pipelines to an upstream */
    connection->have = connection->received = connection->whole = 0;
    return answer(fd, end + 4);
}

static void take(int listener) {
    int fd = accept(listener, NULL, NULL), on = 1;
    if (fd < 0) return;
    if (fd >= MAX_FD || (connections[fd] = calloc(1, sizeof(Connection))) == NULL) {
        close(fd);
        return;
    }
    if (fd > highest_fd) highest_fd = fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

/* Say every event that is due; how many streams have a pace. */
static int say_events(void) {
    int streams = 0;
    long long now = now_ns();
    for (int fd = 0; fd <= highest_fd; fd++) {
        Connection *connection = connections[fd];
        if (connection == NULL || !connection->pace_ns) continue;
        streams++;
        if (connection->due_ns > now) continue;
        connection->due_ns += connection->pace_ns;
        if (!say_event(fd)) drop(fd);
    }
    return streams;
}

int main(int count, char **arguments) {
    if (count != 2 || (usual_pace_ns = atoll(arguments[1]) * 1000000) <= 0) {
        fprintf(stderr, "usage: upstream PACE_MS\n");
        return 2;
    }
    alarm(LONGEST_S);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    began = time(NULL);
    event_length = snprintf(event_chunk, sizeof event_chunk, "%zx\r\n%s\r\n", sizeof EVENT - 1, EVENT);
    stamp_at = (int)(strchr(event_chunk, '@') + 1 - event_chunk);
    while (flood_length + event_length <= (int)sizeof flood) {
        memcpy(flood + flood_length, event_chunk, event_length);
        flood_length += event_length;
    }
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) {
        perror("upstream");
        return 1;
    }
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    poller = epoll_create1(0);
    struct epoll_event events[256], event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (int streams = 0;;) {
        int ready = epoll_wait(poller, events, 256, streams ? 1 : 50);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) take(fd);
            else if (connections[fd] == NULL) continue;
            else if ((events[i].events & ~EPOLLOUT) && !hear(fd)) drop(fd);
            else if ((events[i].events & EPOLLOUT) && !pour(fd)) drop(fd);
        }
        streams = say_events();
    }
}
