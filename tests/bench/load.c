/*
 * The bench's clients: one thread, epoll.
 *
 *   load PORT PID requests|events|hold|gone [NAME=VALUE ...]
 *
 *   requests  each of `connections` asks again as soon as it has its answer, or all together ask `rate` times a second
 *   events    `connections` streams that begin within `ramp_ms`, an event each `pace_us` (0: as the upstream is set)
 *   hold      streams that say no more once they have begun; it prints `begun` then, and ends when its input does
 *   gone      `connections` times: a silent stream begins and the client leaves; `upstream` is the port that is watched
 *
 * It asks 127.0.0.1:PORT for `warm_ms`, and until it has `first` answers; it measures for `window_ms`, and prints one JSON object: `count` (answers or events
 * in the window), `seconds`, `cpu_s` of process PID, `others_cpu_s` of itself and of process `behind`; p50 and p99 in
 * ms of what was timed in the window (`requests`: from asking to the whole answer; `events`: from the upstream's send to
 * arrival; `gone`: from close to the upstream's end of file), and as first_p50_ms the time to the head of the first
 * answer of each connection. Clients ask with `key`, or with `keys` keys that are `key` with six digits after it, under
 * `agents` User-Agents; `body` adds so many bytes to a request, or conversations are an agent's, of `messages` messages
 * at their first turn, some 5 KB each. Anything but a 200 ends it with status 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define HEAD_ROOM 16384
#define TURNS 8 /* requests of one conversation */
#define STAMP_DIGITS 19
#define LEAVE_WITHIN_MS 3000 /* an upstream connection open for longer than its client's is said to stay open */

enum State { HEAD, LENGTH, SIZE, CHUNK, CHUNK_END, LAST, IDLE };

typedef struct {
    int fd, number;
    long asked;
    enum State state;
    int have;        /* of the head, or of a chunk's size line */
    long long left;  /* of the body, or of the chunk */
    int line_breaks; /* in a row, at the end of what was read of an event stream */
    int digits;      /* still to come of an event's time */
    long long stamp_ns, asked_ns;
    char *large; /* a request with a large body */
    size_t large_size, sent;
    int begun;
    char line[HEAD_ROOM];
} Connection;

/* Samples in ms. */
typedef struct {
    float *values;
    size_t count, room;
} Samples;

static int streaming, begun, counting, poller, port, opened;
static long asked_all;
static long long answers, events;
static Samples delays, firsts;
static Connection **connections;
static char *talk; /* the messages of an agent's conversation */
static size_t *talk_ends;
static long long due[4096]; /* when what waits for a free connection was due, of `requests` with a rate */
static unsigned due_first, due_end;

enum Option { CONNECTIONS, WARM_MS, WINDOW_MS, KEYS, AGENTS, BODY, RATE, RAMP_MS, PACE_US, UPSTREAM, BEHIND, FIRST, MESSAGES,
              OPTIONS };
static const char *const names[OPTIONS] = {"connections", "warm_ms", "window_ms", "keys",     "agents", "body",
                                           "rate",        "ramp_ms", "pace_us",   "upstream", "behind", "first",
                                           "messages"};
static long long option[OPTIONS] = {[CONNECTIONS] = 32, [WINDOW_MS] = 1000, [AGENTS] = 1};
static const char *key = "", *mode;

static void fail(const char *why, const char *what) {
    fprintf(stderr, "load: %s: %.300s\n", why, what);
    exit(1);
}

static void set_option(char *argument) {
    char *value = strchr(argument, '=');
    if (!value) fail("not NAME=VALUE", argument);
    *value++ = 0;
    if (!strcmp(argument, "key")) {
        key = value;
        return;
    }
    for (int i = 0; i < OPTIONS; i++) {
        if (strcmp(names[i], argument)) continue;
        option[i] = atoll(value);
        return;
    }
    fail("no such option", argument);
}

static long long clock_ns(clockid_t id) {
    struct timespec now;
    if (clock_gettime(id, &now)) {
        perror("the process that is measured");
        exit(1);
    }
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void note(Samples *samples, long long ns) {
    if (samples->count == samples->room) {
        samples->room = samples->room ? 2 * samples->room : 4096;
        samples->values = realloc(samples->values, samples->room * sizeof *samples->values);
        if (samples->values == NULL) fail("no memory", "");
    }
    samples->values[samples->count++] = ns / 1e6f;
}

static int by_size(const void *a, const void *b) {
    float left = *(const float *)a, right = *(const float *)b;
    return (left > right) - (left < right);
}

/* What part of the samples is no larger; they are sorted. */
static double quantile(Samples *samples, double part) {
    if (!samples->count) return 0;
    qsort(samples->values, samples->count, sizeof *samples->values, by_size);
    size_t at = (size_t)(part * samples->count);
    return samples->values[at < samples->count ? at : samples->count - 1];
}

/* The head of a request whose body has so many bytes, into `out`; its length. */
static int compose_head(char *out, size_t room, long long body_bytes) {
    char digits[24] = "";
    long number = asked_all++;
    if (option[KEYS]) snprintf(digits, sizeof digits, "%06lld", number * 7919 % option[KEYS]);
    return snprintf(
        out, room,
        "POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\nAccept-Encoding: gzip, deflate\r\n"
        "Connection: keep-alive\r\nUser-Agent: Anthropic/Python 0.121.%lld\r\nContent-Type: application/json\r\n"
        "X-Stainless-Lang: python\r\nX-Stainless-Package-Version: 0.121.0\r\nX-Stainless-OS: Linux\r\n"
        "X-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.11.7\r\n"
        "X-Stainless-Async: false\r\nx-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n"
        "anthropic-version: 2023-06-01\r\nx-api-key: %s%s\r\nContent-Length: %lld\r\n\r\n",
        number % option[AGENTS], key, digits, body_bytes);
}

/* A request into `out`, whose body is to have `more` bytes after it and before its end; its length without them. */
static int compose(char *out, size_t room, Connection *connection, const char *words, long long more) {
    static char body[2048];
    char extra[64] = "";
    if (option[PACE_US] || !strcmp(mode, "hold") || !strcmp(mode, "gone"))
        snprintf(extra, sizeof extra, "\"pace_us\":%lld,", option[PACE_US]);
    int length = snprintf(
        body, sizeof body,
        "{%s\"model\":\"claude-sonnet-5\",\"max_tokens\":1024,\"stream\":%s,"
        "\"metadata\":{\"user_id\":\"user_%08d_account__session_%08ld\"},"
        "\"system\":\"You answer briefly.\",\"messages\":[{\"role\":\"user\",\"content\":"
        "\"Conversation %d of %ld: %s\"},{\"role\":\"assistant\",\"content\":\"Yes.\"},"
        "{\"role\":\"user\",\"content\":\"Turn %ld: and now?%s",
        extra, streaming ? "true" : "false", connection->number, connection->asked / TURNS, connection->number,
        connection->asked / TURNS, words, connection->asked % TURNS, more ? " " : "\"}]}");
    connection->asked++;
    int head = compose_head(out, room, length + (more ? more + 4 : 0));
    return head + snprintf(out + head, room - head, "%s", body);
}

static void compose_large(Connection *connection) {
    static char *large; /* the same for all */
    static size_t size;
    if (large == NULL) {
        long long more = option[BODY];
        large = malloc(more + 8192);
        if (large == NULL) fail("no memory for a body", "");
        int length = compose(large, 8192, connection, "", more);
        memset(large + length, 'x', more);
        memcpy(large + length + more, "\"}]}", 4);
        size = length + more + 4;
    }
    connection->large = large;
    connection->large_size = size;
}

/* Append `bytes` of prose, as a JSON string has it. */
static char *prose(char *out, int bytes) {
    static const char words[] = "the quick brown fox jumps over the \\\"lazy\\\" dog,\\n and ";
    for (; bytes > 0; bytes -= sizeof words - 1) out = stpcpy(out, words);
    return out;
}

/* What an agent is told, and reads with its tools: the user's word, then its calls and their results in turns. */
static void compose_talk(void) {
    int count = option[MESSAGES] + 2 * TURNS;
    char *at = talk = malloc(count * 12000);
    talk_ends = calloc(count, sizeof *talk_ends);
    if (talk == NULL || talk_ends == NULL) fail("no memory for a conversation", "");
    for (int i = 0; i < count; i++) {
        if (i == 0) {
            at = prose(stpcpy(at, "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\""), 2000);
            at = stpcpy(at, "\"}]}");
        } else if (i % 2) {
            at = prose(stpcpy(at, ",{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\""), 700);
            at += sprintf(at, "\",\"signature\":\"%0400d\"},{\"type\":\"text\",\"text\":\"", i);
            at = prose(at, 200);
            at += sprintf(at, "\"},{\"type\":\"tool_use\",\"id\":\"toolu_%020d\",\"name\":\"Edit\",", i);
            at = stpcpy(prose(stpcpy(at, "\"input\":{\"file_path\":\"/a\",\"new_string\":\""), 300), "\"}}]}");
        } else {
            at += sprintf(at, ",{\"role\":\"user\",\"content\":[{\"tool_use_id\":\"toolu_%020d\",", i - 1);
            at = stpcpy(prose(stpcpy(at, "\"type\":\"tool_result\",\"content\":\""), 6000), "\"},");
            at = stpcpy(prose(stpcpy(at, "{\"type\":\"text\",\"text\":\""), 200), "\"}]}");
        }
        talk_ends[i] = at - talk;
    }
}

/* The next turn of an agent's conversation, or the first one of the next. */
static void compose_turn(Connection *connection) {
    static char start[40000];
    if (talk == NULL) compose_talk();
    if (connection->large == NULL) connection->large = malloc(talk_ends[option[MESSAGES] + 2 * TURNS - 1] + 65536);
    if (connection->large == NULL) fail("no memory for a conversation", "");
    size_t said = talk_ends[option[MESSAGES] - 1 + connection->asked % TURNS * 2];
    char *at = start;
    at += sprintf(at, "{\"model\":\"claude-sonnet-5\",\"max_tokens\":32000,\"stream\":%s,"
                  "\"system\":[{\"type\":\"text\",\"text\":\"Agent %08d, conversation %08ld. ", streaming ? "true" : "false", connection->number,
                  connection->asked / TURNS);
    at = stpcpy(prose(at, 12000), "\",\"cache_control\":{\"type\":\"ephemeral\"}}],\"tools\":[");
    for (int i = 0; i < 12; i++) {
        at = prose(at + sprintf(at, "%s{\"name\":\"Tool%d\",\"description\":\"", i ? "," : "", i), 1000);
        at = stpcpy(at, "\",\"input_schema\":{\"type\":\"object\",\"properties\":{\"file_path\":{\"type\":\"string\"},"
                        "\"new_string\":{\"type\":\"string\"}},\"required\":[\"file_path\"]}}");
    }
    at = stpcpy(at, "],\"messages\":[");
    connection->asked++;
    char *out = connection->large + compose_head(connection->large, 8192, at - start + said + 2);
    out = mempcpy(mempcpy(mempcpy(out, start, at - start), talk, said), "]}", 2);
    connection->large_size = out - connection->large;
}

/* Send on what the socket takes of the large request. */
static void send_large(Connection *connection) {
    while (connection->sent < connection->large_size) {
        ssize_t took = send(connection->fd, connection->large + connection->sent,
                            connection->large_size - connection->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (took < 0 && errno != EAGAIN) fail("cannot send", strerror(errno));
        if (took < 0) break;
        connection->sent += took;
    }
    struct epoll_event event = {.events = connection->sent < connection->large_size ? EPOLLIN | EPOLLOUT : EPOLLIN,
                                .data.ptr = connection};
    epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &event);
}

static void ask(Connection *connection, long long since_ns) {
    static char words[700], out[4096];
    connection->state = HEAD;
    connection->have = connection->line_breaks = connection->digits = 0;
    connection->asked_ns = since_ns;
    if (option[BODY] || option[MESSAGES]) {
        if (option[MESSAGES]) compose_turn(connection);
        else compose_large(connection);
        connection->sent = 0;
        send_large(connection);
        return;
    }
    if (!words[0])
        while (strlen(words) < 600) strcat(words, "the quick brown fox jumps over the lazy dog ");
    int size = compose(out, sizeof out, connection, words, 0);
    if (send(connection->fd, out, size, MSG_NOSIGNAL) != size) fail("cannot send", strerror(errno));
}

static void answered(Connection *connection, long long came_ns) {
    if (streaming) fail("a stream ended", connection->line);
    answers++;
    if (counting) note(&delays, came_ns - connection->asked_ns);
    if (!option[RATE]) ask(connection, clock_ns(CLOCK_MONOTONIC));
    else if (due_first == due_end) connection->state = IDLE;
    else ask(connection, due[due_first++ % 4096]);
}

static void read_head(Connection *connection, long long came_ns) {
    connection->line[connection->have] = 0;
    if (strncmp(connection->line, "HTTP/1.1 200", 12)) fail("no 200", connection->line);
    char *said = strcasestr(connection->line, "\r\ncontent-length:");
    connection->state = said ? LENGTH : SIZE;
    connection->left = said ? atoll(said + 17) : 0;
    if (!said && !strcasestr(connection->line, "\r\ntransfer-encoding: chunked")) fail("no framing", connection->line);
    if (!connection->begun) {
        connection->begun = 1;
        begun++;
        note(&firsts, came_ns - connection->asked_ns);
    }
    connection->have = 0;
    if (said && !connection->left) answered(connection, came_ns);
}

/* Events end with an empty line, and say when they were sent: digits after an @. */
static void count_events(Connection *connection, const char *data, long long length, long long came_ns) {
    for (long long i = 0; i < length; i++) {
        connection->line_breaks = data[i] == '\n' ? connection->line_breaks + 1 : 0;
        if (connection->line_breaks == 2) events++;
        if (data[i] == '@') {
            connection->digits = STAMP_DIGITS;
            connection->stamp_ns = 0;
        } else if (connection->digits) {
            connection->stamp_ns = 10 * connection->stamp_ns + (data[i] - '0');
            if (!--connection->digits && counting) note(&delays, came_ns - connection->stamp_ns);
        }
    }
}

static void hear(Connection *connection, const char *data, long long length, long long came_ns) {
    long long at = 0;
    while (at < length) {
        if (connection->state == LENGTH || connection->state == CHUNK) {
            long long part = length - at < connection->left ? length - at : connection->left;
            if (streaming) count_events(connection, data + at, part, came_ns);
            at += part;
            if (connection->left -= part) continue;
            if (connection->state == LENGTH) answered(connection, came_ns);
            else connection->state = CHUNK_END;
            continue;
        }
        char *line = connection->line;
        if (connection->have == HEAD_ROOM - 1) fail("a head too long", line);
        line[connection->have++] = data[at++];
        if (line[connection->have - 1] != '\n') continue;
        if (connection->state == HEAD) {
            if (connection->have > 3 && !memcmp(line + connection->have - 4, "\r\n\r\n", 4)) read_head(connection, came_ns);
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
            answered(connection, came_ns);
        }
    }
}

static void open_one(int number) {
    Connection *connection = calloc(1, sizeof *connection);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    int on = 1;
    if (connection == NULL) fail("no memory", "");
    connection->number = number;
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof address)) fail("cannot connect", strerror(errno));
    epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event);
    connections[number] = connection;
    opened++;
    ask(connection, clock_ns(CLOCK_MONOTONIC));
}

/* Ask what is due on a connection that is free, or let it wait for one. */
static void tick(int timer) {
    unsigned long long ticks = 0;
    if (read(timer, &ticks, sizeof ticks) < 0) return;
    while (ticks--) {
        Connection *free_one = NULL;
        for (int i = 0; i < opened && free_one == NULL; i++)
            if (connections[i]->state == IDLE) free_one = connections[i];
        if (free_one) ask(free_one, clock_ns(CLOCK_MONOTONIC));
        else if (due_end - due_first < 4096) due[due_end++ % 4096] = clock_ns(CLOCK_MONOTONIC);
        else fail("too slow for the rate", "");
    }
}

static void wait_for(long long until_ns, int until_begun) {
    static char data[65536];
    struct epoll_event ready[256];
    static int timer;
    int all = option[CONNECTIONS];
    long long ramp_ns = option[RAMP_MS] * 1000000, now = clock_ns(CLOCK_MONOTONIC), began = now;
    if (!timer && option[RATE]) {
        long long every_ns = 1000000000 / option[RATE];
        struct itimerspec pace = {.it_interval = {0, every_ns}, .it_value = {0, every_ns}};
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        if (option[RATE] == 1) pace.it_interval.tv_sec = pace.it_value.tv_sec = 1, pace.it_interval.tv_nsec = 0;
        timerfd_settime(timer, 0, &pace, NULL);
        epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
    }
    while (now < until_ns) {
        while (opened < all && (now - began) * all >= opened * ramp_ns) open_one(opened);
        int count = epoll_wait(poller, ready, 256, opened < all ? 0 : 5);
        for (int i = 0; i < count; i++) {
            Connection *connection = ready[i].data.ptr;
            if (connection == NULL) {
                tick(timer);
                continue;
            }
            if (ready[i].events & EPOLLOUT) send_large(connection);
            ssize_t got = recv(connection->fd, data, sizeof data, MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0) fail("the connection was closed", got ? strerror(errno) : "");
            hear(connection, data, got, clock_ns(CLOCK_MONOTONIC));
        }
        if (until_begun && begun >= until_begun) return;
        now = clock_ns(CLOCK_MONOTONIC);
    }
    if (until_begun) fail("not every connection was answered in time", "");
}

/* A line `closed NS` of the upstream; LEAVE_WITHIN_MS after `since_ns` if there is none. */
static long long closed_ns(int watch, long long since_ns) {
    struct pollfd ready = {.fd = watch, .events = POLLIN};
    char text[256];
    for (;;) {
        if (poll(&ready, 1, LEAVE_WITHIN_MS) <= 0) return since_ns + LEAVE_WITHIN_MS * 1000000LL;
        ssize_t got = recv(watch, text, sizeof text - 1, 0);
        if (got <= 0) fail("the upstream is gone", "");
        text[got] = 0;
        char *said = strstr(text, "closed ");
        if (said) return atoll(said + 7);
    }
}

static void leave_again_and_again(void) {
    static const char WATCH[] = "GET /bench/watch HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(option[UPSTREAM]),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int watch = socket(AF_INET, SOCK_STREAM, 0), times = option[CONNECTIONS];
    if (connect(watch, (struct sockaddr *)&address, sizeof address)) fail("cannot connect upstream", strerror(errno));
    if (send(watch, WATCH, sizeof WATCH - 1, MSG_NOSIGNAL) < 0) fail("cannot watch", strerror(errno));
    for (int i = 0; i < times; i++) {
        option[CONNECTIONS] = i + 1;
        wait_for(clock_ns(CLOCK_MONOTONIC) + 10000000000LL, i + 1);
        wait_for(clock_ns(CLOCK_MONOTONIC) + 5000000, 0); /* the proxy is at rest again */
        long long left_ns = clock_ns(CLOCK_MONOTONIC);
        close(connections[i]->fd);
        note(&delays, closed_ns(watch, left_ns) - left_ns);
        if (delays.values[delays.count - 1] >= LEAVE_WITHIN_MS) break;
    }
    answers = delays.count;
}

static void report(long long count, double seconds, double cpu_s, double others_cpu_s) {
    printf("{\"count\":%lld,\"seconds\":%.6f,\"cpu_s\":%.6f,\"others_cpu_s\":%.6f,\"p50_ms\":%.4f,\"p99_ms\":%.4f,"
           "\"first_p50_ms\":%.4f,\"first_p99_ms\":%.4f}\n",
           count, seconds, cpu_s, others_cpu_s, quantile(&delays, 0.5), quantile(&delays, 0.99),
           quantile(&firsts, 0.5), quantile(&firsts, 0.99));
}

int main(int count, char **arguments) {
    clockid_t measured, behind;
    if (count < 4) {
        fprintf(stderr, "usage: load PORT PID requests|events|hold|gone [NAME=VALUE ...]\n");
        return 2;
    }
    port = atoi(arguments[1]);
    mode = arguments[3];
    streaming = strcmp(mode, "requests") != 0;
    for (int i = 4; i < count; i++) set_option(arguments[i]);
    if (clock_getcpuclockid(atoi(arguments[2]), &measured)) fail("no such process", arguments[2]);
    if (clock_getcpuclockid(option[BEHIND], &behind)) fail("no such process", "behind");
    long long window_ns = option[WINDOW_MS] * 1000000;
    alarm((option[WARM_MS] + option[WINDOW_MS] + option[RAMP_MS]) / 1000 + 120);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    poller = epoll_create1(0);
    connections = calloc(option[CONNECTIONS], sizeof *connections);
    long long cpu = clock_ns(measured), own = clock_ns(CLOCK_PROCESS_CPUTIME_ID), its = clock_ns(behind);
    long long began = clock_ns(CLOCK_MONOTONIC), before = 0;
    if (!strcmp(mode, "gone")) {
        leave_again_and_again();
    } else {
        wait_for(began + 60000000000LL, option[CONNECTIONS]);
        if (!strcmp(mode, "hold")) {
            printf("begun\n");
            fflush(stdout);
            return getchar() == EOF ? 0 : 1;
        }
        wait_for(clock_ns(CLOCK_MONOTONIC) + option[WARM_MS] * 1000000, 0);
        while (!streaming && answers < option[FIRST]) wait_for(clock_ns(CLOCK_MONOTONIC) + 10000000, 0);
        before = streaming ? events : answers;
        cpu = clock_ns(measured), own = clock_ns(CLOCK_PROCESS_CPUTIME_ID), its = clock_ns(behind);
        counting = 1;
        began = clock_ns(CLOCK_MONOTONIC);
        wait_for(began + window_ns, 0);
    }
    double seconds = (clock_ns(CLOCK_MONOTONIC) - began) / 1e9;
    cpu = clock_ns(measured) - cpu;
    long long others = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own + clock_ns(behind) - its;
    report((streaming && counting ? events : answers) - before, seconds, cpu / 1e9, others / 1e9);
    return 0;
}
