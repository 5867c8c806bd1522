/* The least that can receive a file over HTTP, as the limit for all others.
 *
 * sink PORT DIRECTORY splice|recv [sync]
 *
 * One connection at a time. Takes a request with Content-Length, writes its body to a
 * new file in DIRECTORY and answers 204; with sync after fdatasync.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD = 16 * 1024, BLOCK = 256 * 1024, PIPE = 1024 * 1024 };

static int spliced, synced, pipes[2];
static char block[BLOCK];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void write_all(int file, const char *data, size_t size)
{
    while (size) {
        ssize_t done = write(file, data, size);
        if (done < 0)
            die("write");
        data += done;
        size -= (size_t)done;
    }
}

/* Bytes from the socket to the file; 0 where the client has gone. */
static int take(int client, int file, long long left)
{
    while (left > 0) {
        size_t want = left < (spliced ? PIPE : BLOCK) ? (size_t)left
                      : spliced                        ? PIPE
                                                       : BLOCK;
        ssize_t got;
        if (!spliced) {
            got = recv(client, block, want, 0);
            if (got <= 0)
                return 0;
            write_all(file, block, (size_t)got);
        } else {
            got = splice(client, NULL, pipes[1], NULL, want, SPLICE_F_MOVE);
            if (got <= 0)
                return 0;
            for (ssize_t rest = got; rest > 0;) {
                ssize_t moved = splice(pipes[0], NULL, file, NULL, (size_t)rest,
                                       SPLICE_F_MOVE);
                if (moved <= 0)
                    die("splice");
                rest -= moved;
            }
        }
        left -= got;
    }
    return 1;
}

/* One request; 0 where the connection is over. */
static int serve(int client, const char *directory, int number)
{
    char head[HEAD + 1], path[4096];
    const char answer[] = "HTTP/1.1 204 No Content\r\n\r\n";
    size_t filled = 0;
    char *end = NULL;

    while (!end) {
        ssize_t got = recv(client, head + filled, HEAD - filled, 0);
        if (got <= 0)
            return 0;
        filled += (size_t)got;
        head[filled] = 0;
        end = strstr(head, "\r\n\r\n");
        if (!end && filled == HEAD)
            return 0;
    }
    end += 4;

    char *length = strcasestr(head, "\r\nContent-Length:");
    if (!length || length > end)
        return 0;
    long long left = strtoll(length + 17, NULL, 10);
    size_t early = filled - (size_t)(end - head);

    snprintf(path, sizeof path, "%s/sink-%d.bin", directory, number);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0)
        die(path);
    write_all(file, end, early);
    int whole = take(client, file, left - (long long)early);
    if (whole && synced && fdatasync(file))
        die("fdatasync");
    close(file);
    if (!whole)
        return 0;
    return send(client, answer, sizeof answer - 1, MSG_NOSIGNAL) > 0;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: sink PORT DIRECTORY splice|recv [sync]\n");
        return 2;
    }
    spliced = !strcmp(argv[3], "splice");
    synced = argc > 4 && !strcmp(argv[4], "sync");
    signal(SIGPIPE, SIG_IGN);
    if (spliced && (pipe(pipes) || fcntl(pipes[1], F_SETPIPE_SZ, PIPE) < 0))
        die("pipe");

    struct sockaddr_in here = {.sin_family = AF_INET,
                               .sin_port = htons((unsigned short)atoi(argv[1])),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, number = 0, door = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(door, (struct sockaddr *)&here, sizeof here) || listen(door, 16))
        die("listen");
    for (;;) {
        int client = accept(door, NULL, NULL);
        if (client < 0)
            continue;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        while (serve(client, argv[2], number++))
            ;
        close(client);
    }
}
