/*
 * The bench's clients: one thread, epoll, each connection asks again as soon as it has its answer.
 *
 *   load PORT PID CONNECTIONS WARM_MS WINDOW_MS KEY requests|events
 *
 * It asks 127.0.0.1:PORT for WARM_MS, then counts for WINDOW_MS, and prints one line: what was counted in the window
 * (answers, or events of streams), its seconds, the CPU seconds of process PID in it, and its own. `events` begins to
 * count once every stream has begun. Anything but a 200 ends it with status 1.
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

#define HEAD_ROOM 16384
#define TURNS 8 /* requests of one conversation */

enum State { HEAD, LENGTH, SIZE, CHUNK, CHUNK_END, LAST };

typedef struct {
    int fd, number;
    long asked;
    enum State state;
    int have;        /* of the head, or of a chunk's size line */
    long long left;  /* of the body, or of the chunk */
    int line_breaks; /* in a row, at the end of what was read of an event stream */
    int begun;
    char line[HEAD_ROOM];
} Connection;

static int streaming, begun;
static long long answers, events;
static const char *key;

static long long clock_ns(clockid_t id) {
    struct timespec now;
    if (clock_gettime(id, &now)) {
        perror("the process that is measured");
        exit(1);
    }
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void fail(const char *why, const char *what) {
    fprintf(stderr, "load: %s: %.300s\n", why, what);
    exit(1);
}

static void ask(Connection *connection) {
    static char words[700], out[4096], body[2048];
    if (!words[0])
        while (strlen(words) < 600) strcat(words, "the quick brown fox jumps over the lazy dog ");
    int length = snprintf(
        body, sizeof body,
        "{\"model\":\"claude-sonnet-5\",\"max_tokens\":1024,\"stream\":%s,"
        "\"metadata\":{\"user_id\":\"user_%08d_account__session_%08ld\"},"
        "\"system\":\"You answer briefly.\",\"messages\":[{\"role\":\"user\",\"content\":"
        "\"Conversation %d of %ld: %s\"},{\"role\":\"assistant\",\"content\":\"Yes.\"},"
        "{\"role\":\"user\",\"content\":\"Turn %ld: and now?\"}]}",
        streaming ? "true" : "false", connection->number, connection->asked / TURNS, connection->number,
        connection->asked / TURNS, words, connection->asked % TURNS);
    int size = snprintf(
        out, sizeof out,
        "POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\nAccept-Encoding: gzip, deflate\r\n"
        "Connection: keep-alive\r\nUser-Agent: Anthropic/Python 0.121.0\r\nContent-Type: application/json\r\n"
        "X-Stainless-Lang: python\r\nX-Stainless-Package-Version: 0.121.0\r\nX-Stainless-OS: Linux\r\n"
        "X-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.11.7\r\n"
        "X-Stainless-Async: false\r\nx-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n"
        "anthropic-version: 2023-06-01\r\nx-api-key: %s\r\nContent-Length: %d\r\n\r\n%s",
        key, length, body);
    connection->asked++;
    connection->state = HEAD;
    connection->have = connection->line_breaks = 0;
    if (send(connection->fd, out, size, MSG_NOSIGNAL) != size) fail("cannot send", strerror(errno));
}

static void answered(Connection *connection) {
    if (streaming) fail("a stream ended", connection->line);
    answers++;
    ask(connection);
}

static void read_head(Connection *connection) {
    connection->line[connection->have] = 0;
    if (strncmp(connection->line, "HTTP/1.1 200", 12)) fail("no 200", connection->line);
    char *said = strcasestr(connection->line, "\r\ncontent-length:");
    connection->state = said ? LENGTH : SIZE;
    connection->left = said ? atoll(said + 17) : 0;
    if (!said && !strcasestr(connection->line, "\r\ntransfer-encoding: chunked")) fail("no framing", connection->line);
    if (!connection->begun) {
        connection->begun = 1;
        begun++;
    }
    connection->have = 0;
    if (said && !connection->left) answered(connection);
}

/* Events end with an empty line. */
static void count_events(Connection *connection, const char *data, long long length) {
    for (long long i = 0; i < length; i++) {
        connection->line_breaks = data[i] == '\n' ? connection->line_breaks + 1 : 0;
        if (connection->line_breaks == 2) events++;
    }
}

static void hear(Connection *connection, const char *data, long long length) {
    long long at = 0;
    while (at < length) {
        if (connection->state == LENGTH || connection->state == CHUNK) {
            long long part = length - at < connection->left ? length - at : connection->left;
            if (streaming) count_events(connection, data + at, part);
            at += part;
            if (connection->left -= part) continue;
            if (connection->state == LENGTH) answered(connection);
            else connection->state = CHUNK_END;
            continue;
        }
        char *line = connection->line;
        if (connection->have == HEAD_ROOM - 1) fail("a head too long", line);
        line[connection->have++] = data[at++];
        if (line[connection->have - 1] != '\n') continue;
        if (connection->state == HEAD) {
            if (connection->have > 3 && !memcmp(line + connection->have - 4, "\r\n\r\n", 4)) read_head(connection);
            continue;
        }
        line[connection->have] = 0;
        connection->have = 0;
        if (connection->state == SIZE) {
            connection->left = strtoll(line, NULL, 16);
            connection->state = connection->left ? CHUNK : LAST;
        } else if (connection->state == CHUNK_END) {
            connection->state = SIZE;
        } else {
            answered(connection);
        }
    }
}

static void wait_for(int poller, long long until_ns, int until_begun) {
    static char data[65536];
    struct epoll_event ready[256];
    while (clock_ns(CLOCK_MONOTONIC) < until_ns) {
        int count = epoll_wait(poller, ready, 256, 5);
        for (int i = 0; i < count; i++) {
            Connection *connection = ready[i].data.ptr;
            ssize_t got = recv(connection->fd, data, sizeof data, MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0) fail("the connection was closed", got ? strerror(errno) : "");
            hear(connection, data, got);
        }
        if (until_begun && begun >= until_begun) return;
    }
    if (until_begun) fail("not every connection was answered in time", "");
}

static Connection *open_one(int port, int number) {
    Connection *connection = calloc(1, sizeof *connection);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    connection->number = number;
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof address)) fail("cannot connect", strerror(errno));
    return connection;
}

int main(int count, char **arguments) {
    if (count != 8) {
        fprintf(stderr, "usage: load PORT PID CONNECTIONS WARM_MS WINDOW_MS KEY requests|events\n");
        return 2;
    }
    clockid_t process;
    if (clock_getcpuclockid(atoi(arguments[2]), &process)) fail("no such process", arguments[2]);
    int connections = atoi(arguments[3]);
    long long warm_ns = atoll(arguments[4]) * 1000000, window_ns = atoll(arguments[5]) * 1000000;
    key = arguments[6];
    streaming = !strcmp(arguments[7], "events");
    alarm((warm_ns + window_ns) / 1000000000 + 60);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int poller = epoll_create1(0);
    for (int i = 0; i < connections; i++) {
        Connection *connection = open_one(atoi(arguments[1]), i);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event);
        ask(connection);
    }
    wait_for(poller, clock_ns(CLOCK_MONOTONIC) + 30000000000LL, connections);
    wait_for(poller, clock_ns(CLOCK_MONOTONIC) + warm_ns, 0);
    long long counted = streaming ? events : answers, own = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    long long cpu = clock_ns(process), began = clock_ns(CLOCK_MONOTONIC);
    wait_for(poller, began + window_ns, 0);
    long long ended = clock_ns(CLOCK_MONOTONIC);
    cpu = clock_ns(process) - cpu;
    printf("%lld %.6f %.6f %.6f\n", (streaming ? events : answers) - counted, (ended - began) / 1e9, cpu / 1e9,
           (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own) / 1e9);
    return 0;
}
